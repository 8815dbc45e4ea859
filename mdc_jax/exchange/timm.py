"""Vision transformers of timm: folders with `model.safetensors` and `config.json`, as at Hugging Face.

Read are its `VisionTransformer`s (github.com/huggingface/pytorch-image-models, models/vision_transformer.py) as far as
our encoder can be them; written is `vit_base_patch16_siglip_gap_224` with the sizes as arguments.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import logging
from etils import epath

from mdc_jax.config import ConfigError, sections
from mdc_jax.exchange import layout, own, positions, released, safetensors
from mdc_jax.objectives.sizes import encoder_sizes
from mdc_jax.training import checkpoint

_LAYOUT = layout.Layout(
    patch="patch_embed.proj",
    patch_norm="patch_embed.norm",
    class_token="cls_token",
    positions="pos_embed",
    norm="norm",
    block={
        "attention_norm": "blocks.{}.norm1",
        "attention/query": "blocks.{}.attn.q",
        "attention/key": "blocks.{}.attn.k",
        "attention/value": "blocks.{}.attn.v",
        "attention/out": "blocks.{}.attn.proj",
        "mlp_norm": "blocks.{}.norm2",
        "mlp/up": "blocks.{}.mlp.fc1",
        "mlp/down": "blocks.{}.mlp.fc2",
    },
)
_QKV = re.compile(r"(blocks\.\d+\.attn)\.qkv\.(weight|bias)")
# Architectures whose heads follow from their size. (vit_base_patch16_gap_224 has 16, so no other is taken for granted.)
_REGULAR = re.compile(r"(?:vit|deit)_([a-z0-9]+)_patch\d+(?:_siglip(?:_gap)?)?_\d+")
_WIDTH_AND_HEADS = {
    "tiny": (192, 3),
    "small": (384, 6),
    "base": (768, 12),
    "large": (1024, 16),
    "huge": (1280, 16),
    "so400m": (1152, 16),
    "giantopt": (1536, 16),
}
# These alone are built with the tanh approximation; the other SigLIPs with the exact one, as all ViTs.
_TANH = re.compile(
    r"vit_((base_patch32|so400m_patch16|giantopt_patch16)_siglip(_gap)?_\d+|large_patch16_siglip(_gap)?_512)"
)
_ACTIVATIONS = {"gelu": "exact", "gelu_tanh": "tanh"}
# Arguments that change what is computed in ways that no parameter shows.
_REFUSED_ARGUMENTS = ("norm_layer", "block_fn", "attn_layer", "mlp_layer", "embed_layer")
_EPSILON = 1e-6  # that of timm's LayerNorm


def read(folder: epath.Path, config: Mapping[str, Any]) -> released.Encoder:
    """Reads a folder whose `config.json` is `config`; raises ConfigError for what our encoder cannot be."""
    tensors = safetensors.read(folder / own.WEIGHTS)
    left_out = {name for name in tensors if name.startswith(("head.", "attn_pool.", "pre_logits."))}
    leaves = layout.read(_LAYOUT, _split({name: tensors[name] for name in tensors.keys() - left_out}))
    arguments = config.get("model_args") or {}
    section = sections.Encoder(
        **released.sizes(leaves),
        heads=_heads(config["architecture"], arguments, released.sizes(leaves)["width"]),
        class_token="class_token" in leaves,
        patch_norm="patch_norm/scale" in leaves,
        gelu=_gelu(config["architecture"], arguments),
        layer_norm_epsilon=_EPSILON,
    )
    shown = config.get("pretrained_cfg") or config
    image = None
    if "mean" in shown and "std" in shown:
        mean, std = (tuple(255.0 * value for value in shown[key]) for key in ("mean", "std"))
        resize = "resize" if shown.get("crop_mode") == "squash" else "crop"
        if resize == "crop" and shown.get("crop_pct", 1.0) != 1.0:
            logging.warning("%s: its images are cut to %s of their side, ours to all of it", folder, shown["crop_pct"])
        image = sections.Image(size=released.image_size(leaves), mean=mean, std=std, resize=resize)
    return released.Encoder(leaves, section, image, positions.antialiased_bicubic, tuple(sorted(left_out)))


def write(loaded: checkpoint.Loaded, out: epath.Path) -> None:
    """Writes the encoder of a model; raises ConfigError for an epsilon that timm cannot have."""
    encoder, image, sizes = loaded.config.model.encoder, loaded.config.image, encoder_sizes(loaded.config.model.encoder)
    if encoder.layer_norm_epsilon != _EPSILON:
        raise ConfigError(
            f"timm's LayerNorms have epsilon {_EPSILON}, this model's {encoder.layer_norm_epsilon}: use another format"
        )
    tensors = _joined(layout.write(_LAYOUT, own.encoder_leaves(loaded), sizes.patch))
    tensors["pos_embed"] = tensors["pos_embed"][None]
    if encoder.class_token:
        tensors["cls_token"] = tensors["cls_token"][None, None]
    arguments: dict[str, Any] = {
        "img_size": image.size,
        "patch_size": sizes.patch,
        "embed_dim": sizes.width,
        "depth": sizes.depth,
        "num_heads": sizes.heads,
        "mlp_ratio": _ratio(sizes.mlp_dim, sizes.width),
        "act_layer": "gelu" if encoder.gelu == "exact" else "gelu_tanh",
        "class_token": encoder.class_token,
        # Our class token has its position in it, and our pooled features are the mean of all tokens.
        "no_embed_class": True,
        "pool_include_prefix": encoder.class_token,
        "embed_norm_layer": "layernorm" if encoder.patch_norm else None,
    }
    config = {
        "architecture": "vit_base_patch16_siglip_gap_224",
        "num_classes": 0,
        "num_features": sizes.width,
        "global_pool": "avg",
        "model_args": arguments,
        "pretrained_cfg": {
            "mean": [value / 255 for value in image.mean],
            "std": [value / 255 for value in image.std],
            "input_size": [3, image.size, image.size],
            "fixed_input_size": True,
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "squash" if image.resize == "resize" else "center",
            "num_classes": 0,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }
    safetensors.write(out / own.WEIGHTS, tensors, {"format": "pt"})
    (out / own.CONFIG).write_text(json.dumps(config, indent=2))


def _heads(architecture: str, arguments: Mapping[str, Any], width: int) -> int:
    """No shape tells them: they are an argument, or that of a size that the name says."""
    if "num_heads" in arguments:
        return int(arguments["num_heads"])
    name = _REGULAR.fullmatch(architecture)
    known_width, heads = _WIDTH_AND_HEADS.get(name[1] if name else "", (0, 0))
    if known_width != width:
        raise ConfigError(
            f'how many heads "{architecture}" of width {width} has is not known: add "num_heads" to the "model_args" '
            "of config.json"
        )
    return heads


def _gelu(architecture: str, arguments: Mapping[str, Any]) -> str:
    for name in _REFUSED_ARGUMENTS:
        if arguments.get(name):
            raise released.refusal(f"{name}={arguments[name]}")
    if "quickgelu" in architecture:
        raise released.refusal("quick GELU")
    activation = arguments.get("act_layer") or ("gelu_tanh" if _TANH.fullmatch(architecture) else "gelu")
    if activation not in _ACTIVATIONS:
        raise released.refusal(f"the activation {activation}")
    return _ACTIVATIONS[activation]


def _ratio(mlp_dim: int, width: int) -> float:
    """timm rounds width times ratio down: the middle of the interval is safe from rounding."""
    exact = mlp_dim / width
    return exact if int(width * exact) == mlp_dim else (mlp_dim + 0.5) / width


def _split(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Queries, keys and values apart, which timm has in one."""
    found = {}
    for name, tensor in tensors.items():
        if match := _QKV.fullmatch(name):
            found |= {
                f"{match[1]}.{part}.{match[2]}": piece for part, piece in zip("qkv", np.split(tensor, 3), strict=True)
            }
        else:
            found[name] = tensor
    return found


def _joined(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inverse of `_split`."""
    found = {}
    for name, tensor in tensors.items():
        match = re.fullmatch(r"(blocks\.\d+\.attn)\.([qkv])\.(weight|bias)", name)
        if match is None:
            found[name] = tensor
        elif match[2] == "q":
            parts = [tensors[f"{match[1]}.{part}.{match[3]}"] for part in "qkv"]
            found[f"{match[1]}.qkv.{match[3]}"] = np.concatenate(parts)
    return found
