"""`.npz` files of big_vision (github.com/google-research/big_vision): ViT, and the image towers of SigLIP and CapPa.

An encoder is found wherever it is: at the top (models/vit.py), in `params/img` (SigLIP, models/proj/image_text/
two_towers.py), in `params/encoder` (CapPa, models/proj/cappa/cappa.py). Older files have the names that
Flax gave before linen.
"""

import re
from collections import defaultdict
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from etils import epath

from mdc_jax.config import ConfigError, sections
from mdc_jax.exchange import npz, positions, released
from mdc_jax.models import vit

_ROOT = re.compile(r"(.*?)embedding/kernel")
_OLD_NAMES = (
    ("LayerNorm_2", "LayerNorm_1"),
    ("MultiHeadDotProductAttention_1", "MultiHeadDotProductAttention_0"),
    ("MlpBlock_3", "MlpBlock_0"),
    ("Transformer/posembed_input/pos_embedding", "pos_embedding"),
    ("Transformer/pos_embedding", "pos_embedding"),
)
_BLOCK = {
    "attention_norm": "LayerNorm_0",
    "attention/query": "MultiHeadDotProductAttention_0/query",
    "attention/key": "MultiHeadDotProductAttention_0/key",
    "attention/value": "MultiHeadDotProductAttention_0/value",
    "attention/out": "MultiHeadDotProductAttention_0/out",
    "mlp_norm": "LayerNorm_1",
    "mlp/up": "MlpBlock_0/Dense_0",
    "mlp/down": "MlpBlock_0/Dense_1",
}
# What stands around an encoder, and within one after its tokens.
_HEADS = ("MAPHead_0/", "head/", "pre_logits/", "probe", "LayerNorm_", "MlpBlock_", "MultiHeadDotProductAttention_")
_OPTIONAL = {"positions": "pos_embedding", "class_token": "cls"}
_BLOCKS = "Transformer/encoderblock/"
_LAYER = re.compile(r"Transformer/encoderblock_(\d+)/(.*)")
_MIDDLE = (127.5, 127.5, 127.5)  # its preprocessing: value_range(-1, 1)
_DEFAULT_SIZE = 224  # where no table of positions tells


def read(path: epath.Path) -> released.Encoder:
    """Reads a file; raises ConfigError for one without an encoder, and for what our encoder cannot be."""
    arrays = {name: _float32(array) for name, array in npz.read(path).items()}
    roots = [match[1] for name in arrays if (match := _ROOT.fullmatch(name))]
    if len(roots) != 1:
        raise ConfigError(f"{path} has {len(roots)} arrays called embedding/kernel, expected one: no ViT of big_vision")
    inside = {name: array for name, array in arrays.items() if name.startswith(roots[0])}
    tree = {_renamed(name.removeprefix(roots[0])): array for name, array in inside.items()}
    around = {name for name in tree if name.startswith(_HEADS)}
    leaves, heads = _leaves({name: array for name, array in tree.items() if name not in around})
    left_out = tuple(sorted({*arrays} - {*inside} | {roots[0] + name for name in around}))
    resample = positions.bilinear
    if "positions" not in leaves:
        resample = _sincos
        side = _DEFAULT_SIZE // released.sizes(leaves)["patch"]
        leaves["positions"] = _sincos(np.zeros((1, 1, leaves["norm/scale"].size)), side).reshape(side * side, -1)
    leaves = released.with_class_position(leaves)
    section = sections.Encoder(**released.sizes(leaves), heads=heads, class_token="class_token" in leaves)
    image = sections.Image(size=released.image_size(leaves), mean=_MIDDLE, std=_MIDDLE)
    return released.Encoder(leaves, section, image, resample, left_out)


def _leaves(tree: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], int]:
    """The parameters in our layout, and the number of heads."""
    tree = _stacked(tree)
    expected = {ours: f"{_BLOCKS}{theirs}" for ours, theirs in _BLOCK.items()}
    expected = {
        **{f"blocks/{ours}/{part}": f"{theirs}/{part}" for ours, theirs in expected.items() for part in _parts(ours)},
        "patch/kernel": "embedding/kernel",
        "patch/bias": "embedding/bias",
        "norm/scale": "Transformer/encoder_norm/scale",
        "norm/bias": "Transformer/encoder_norm/bias",
        **{ours: theirs for ours, theirs in _OPTIONAL.items() if theirs in tree},
    }
    released.check_all_found({*expected.values()} - tree.keys(), tree.keys() - {*expected.values()})
    leaves = {ours: tree[theirs] for ours, theirs in expected.items()}
    width, heads = leaves["norm/scale"].size, leaves["blocks/attention/query/kernel"].shape[-2]
    # Before anything is computed from the width: a long vector alone makes no wide encoder.
    query = leaves["blocks/attention/query/kernel"]
    if query.size != len(query) * width**2:
        raise released.refusal(f"queries of shape {query.shape} at width {width}")
    if leaves["patch/kernel"].shape[2] != 3:
        raise released.refusal(f"patches of {leaves['patch/kernel'].shape[2]} channels")
    for name, leaf in leaves.items():
        if name.startswith("blocks/attention/"):
            shape = (width, -1) if name.endswith("kernel") else (-1,)
            leaves[name] = leaf.reshape(len(leaf), *shape)
        elif not name.startswith("blocks/"):
            leaves[name] = leaf.reshape(-1, width) if leaf.ndim > 1 else leaf
    return leaves, heads


def _parts(name: str) -> tuple[str, str]:
    return ("scale" if name.endswith("norm") else "kernel", "bias")


def _stacked(tree: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Layers apart ("encoderblock_3/...") joined to [depth, ...]; those of a scan are that already."""
    found, layers = {}, defaultdict(dict)
    for name, array in tree.items():
        if match := _LAYER.fullmatch(name):
            layers[match[2]][int(match[1])] = array
        else:
            found[name] = array
    depth = len(set().union(*layers.values()))
    for name, arrays in layers.items():
        if sorted(arrays) != list(range(depth)):
            raise ConfigError(f"{_BLOCKS}{name} is there for the layers {sorted(arrays)}, expected 0 to {depth - 1}")
        found[_BLOCKS + name] = np.stack([arrays[layer] for layer in range(depth)])
    return found


def _sincos(grid: np.ndarray, size: int) -> np.ndarray:
    """Fixed positions, which no file holds, at any size: ours with the column's channels first."""
    width = grid.shape[-1]
    return np.roll(vit.sincos2d(size, size, width), width // 2, axis=1).reshape(size, size, width)


def _renamed(name: str) -> str:
    for old, new in _OLD_NAMES:
        name = name.replace(old, new)
    return name


def _float32(array: np.ndarray) -> np.ndarray:
    """bfloat16 is stored as two bytes without a type."""
    if array.dtype.kind == "V" and array.dtype.itemsize == 2:
        array = array.view(jnp.bfloat16)
    return array.astype(np.float32)
