"""Encoders as PyTorch libraries store them: other names, kernels [out, in], convolutions [out, 3, p, p], layers apart.

Shapes: D width, p patch, N patches.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping

import numpy as np

from mdc_jax.exchange import released

_NORMS = ("attention_norm", "mlp_norm")


@dataclasses.dataclass(frozen=True)
class Layout:
    """What a library calls the parts of an encoder; "{}" stands for the number of a layer."""

    patch: str
    patch_norm: str
    class_token: str
    positions: str
    norm: str
    block: Mapping[str, str]


def read(layout: Layout, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The parameters in our layout, f32; raises ConfigError where they are not exactly those of such an encoder.

    Where the table of positions has a row for the class token, that row is added to the token.
    """
    pattern = re.escape(layout.block["mlp/up"]).replace(r"\{\}", r"(\d+)") + r"\.weight"
    # Their number, not the highest one: a name alone must not make a list of a thousand million layers.
    depth = len({match[1] for name in tensors if (match := re.fullmatch(pattern, name))})
    optional = [name for name in ("patch_norm", "class_token") if _theirs(layout, name) in tensors]
    expected = _names(layout, depth, optional)
    theirs = {name for names in expected.values() for name in names}
    released.check_all_found(theirs - tensors.keys(), tensors.keys() - theirs)
    leaves = {ours: [_to_ours(ours, tensors[name]) for name in names] for ours, names in expected.items()}
    stacked = {ours: np.stack(layers) if ours.startswith("blocks/") else layers[0] for ours, layers in leaves.items()}
    return released.with_class_position(stacked)


def write(layout: Layout, leaves: Mapping[str, np.ndarray], patch: int) -> dict[str, np.ndarray]:
    """The inverse of `read`: parameters in our layout, positions among them, by their names there.

    Positions are [N, D] and the class token [D]: give them the shapes that the library has.
    """
    depth = len(leaves["blocks/mlp/up/kernel"])
    optional = [name for name in ("patch_norm", "class_token") if any(leaf.startswith(name) for leaf in leaves)]
    tensors = {}
    for ours, names in _names(layout, depth, optional).items():
        layers = leaves[ours] if ours.startswith("blocks/") else leaves[ours][None]
        tensors |= {name: _to_theirs(ours, layer, patch) for name, layer in zip(names, layers, strict=True)}
    return tensors


def _theirs(layout: Layout, name: str) -> str:
    return layout.class_token if name == "class_token" else f"{layout.patch_norm}.weight"


def _names(layout: Layout, depth: int, optional: Iterable[str]) -> dict[str, list[str]]:
    """Ours → theirs, one for each layer of the blocks."""
    names = {
        "patch/kernel": [f"{layout.patch}.weight"],
        "patch/bias": [f"{layout.patch}.bias"],
        "positions": [layout.positions],
        "norm/scale": [f"{layout.norm}.weight"],
        "norm/bias": [f"{layout.norm}.bias"],
    }
    if "class_token" in optional:
        names["class_token"] = [layout.class_token]
    if "patch_norm" in optional:
        names["patch_norm/scale"] = [f"{layout.patch_norm}.weight"]
        names["patch_norm/bias"] = [f"{layout.patch_norm}.bias"]
    for ours, theirs in layout.block.items():
        weight = "scale" if ours in _NORMS else "kernel"
        names[f"blocks/{ours}/{weight}"] = [f"{theirs.format(layer)}.weight" for layer in range(depth)]
        names[f"blocks/{ours}/bias"] = [f"{theirs.format(layer)}.bias" for layer in range(depth)]
    return names


def _to_ours(name: str, tensor: np.ndarray) -> np.ndarray:
    tensor = tensor.astype(np.float32)
    if name == "patch/kernel":
        return tensor.transpose(2, 3, 1, 0).reshape(-1, len(tensor))
    if name in ("positions", "class_token"):
        return tensor.reshape(-1, tensor.shape[-1])
    return tensor.T


def _to_theirs(name: str, leaf: np.ndarray, patch: int) -> np.ndarray:
    if name == "patch/kernel":
        return leaf.reshape(patch, patch, 3, -1).transpose(3, 2, 0, 1)
    return leaf if name in ("positions", "class_token") else leaf.T
