"""Vision transformers of transformers: folders with `model.safetensors`, `config.json`, `preprocessor_config.json`.

Read are SigLIP's image towers and ViTs (github.com/huggingface/transformers, models/siglip and models/vit); written is
`SiglipVisionModel` without its pooling head.
"""

import json
from collections.abc import Mapping
from typing import Any

from etils import epath

from mdc_jax.config import ConfigError, sections
from mdc_jax.exchange import layout, own, positions, released, safetensors
from mdc_jax.objectives.sizes import encoder_sizes
from mdc_jax.training import checkpoint

PREPROCESSOR = "preprocessor_config.json"
_PREFIX = "vision_model."
_SIGLIP = layout.Layout(
    patch="embeddings.patch_embedding",
    patch_norm="embeddings.patch_norm",
    class_token="embeddings.class_embedding",
    positions="embeddings.position_embedding.weight",
    norm="post_layernorm",
    block={
        "attention_norm": "encoder.layers.{}.layer_norm1",
        "attention/query": "encoder.layers.{}.self_attn.q_proj",
        "attention/key": "encoder.layers.{}.self_attn.k_proj",
        "attention/value": "encoder.layers.{}.self_attn.v_proj",
        "attention/out": "encoder.layers.{}.self_attn.out_proj",
        "mlp_norm": "encoder.layers.{}.layer_norm2",
        "mlp/up": "encoder.layers.{}.mlp.fc1",
        "mlp/down": "encoder.layers.{}.mlp.fc2",
    },
)
_VIT = layout.Layout(
    patch="embeddings.patch_embeddings.projection",
    patch_norm="embeddings.patch_norm",
    class_token="embeddings.cls_token",
    positions="embeddings.position_embeddings",
    norm="layernorm",
    block={
        "attention_norm": "encoder.layer.{}.layernorm_before",
        "attention/query": "encoder.layer.{}.attention.attention.query",
        "attention/key": "encoder.layer.{}.attention.attention.key",
        "attention/value": "encoder.layer.{}.attention.attention.value",
        "attention/out": "encoder.layer.{}.attention.output.dense",
        "mlp_norm": "encoder.layer.{}.layernorm_after",
        "mlp/up": "encoder.layer.{}.intermediate.dense",
        "mlp/down": "encoder.layer.{}.output.dense",
    },
)
# Released configs leave out what is as the library has it by default.
_SIGLIP_DEFAULTS = {"num_attention_heads": 12, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}
_VIT_DEFAULTS = {"num_attention_heads": 12, "hidden_act": "gelu", "layer_norm_eps": 1e-12}
_FAMILIES = {  # model type → layout, defaults, where the encoder is in the file
    "siglip": (_SIGLIP, _SIGLIP_DEFAULTS, _PREFIX),
    "siglip_vision_model": (_SIGLIP, _SIGLIP_DEFAULTS, _PREFIX),
    "vit": (_VIT, _VIT_DEFAULTS, "vit."),
}
# What stands around an encoder under the same prefix.
_AROUND = ("head.", "pooler.", "embeddings.mask_token", "embeddings.position_ids")
_OTHERS = {
    "clip": "a LayerNorm before the blocks, quick GELU and a patch embedding without bias",
    "clip_vision_model": "a LayerNorm before the blocks, quick GELU and a patch embedding without bias",
    "deit": "a distillation token",
    "dinov2": "layer scale",
    "dinov2_with_registers": "layer scale and register tokens",
    "dinov3_vit": "rotary positions, layer scale and register tokens",
    "beit": "relative positions and layer scale",
    "siglip2": "positions that fit images of any shape",
    "siglip2_vision_model": "positions that fit images of any shape",
}
_GELU = {"gelu": "exact", "gelu_pytorch_tanh": "tanh", "gelu_new": "tanh"}
_BILINEAR = 2  # Pillow's number


def read(folder: epath.Path, config: Mapping[str, Any]) -> released.Encoder:
    """Reads a folder whose `config.json` is `config`; raises ConfigError for what our encoder cannot be."""
    kind = config["model_type"]
    if kind not in _FAMILIES:
        raise released.refusal(
            _OTHERS.get(kind, f'the model type "{kind}", of which only {", ".join(_FAMILIES)} are read')
        )
    names, defaults, prefix = _FAMILIES[kind]
    settings = {**defaults, **(config.get("vision_config") or config)}
    if settings["hidden_act"] not in _GELU:
        raise released.refusal(f"the activation {settings['hidden_act']}")

    tensors = safetensors.read(folder / own.WEIGHTS)
    if not any(name.startswith(prefix) for name in tensors):
        prefix = ""
    inside = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    encoder = {name: tensor for name, tensor in inside.items() if not name.startswith(_AROUND)}
    leaves = layout.read(names, encoder)
    section = sections.Encoder(
        **released.sizes(leaves),
        heads=settings["num_attention_heads"],
        class_token="class_token" in leaves,
        gelu=_GELU[settings["hidden_act"]],
        layer_norm_epsilon=settings["layer_norm_eps"],
    )
    left_out = tuple(sorted(tensors.keys() - {prefix + name for name in encoder}))
    return released.Encoder(leaves, section, _image(folder, released.image_size(leaves)), positions.bicubic, left_out)


def write(loaded: checkpoint.Loaded, out: epath.Path) -> None:
    """Writes the encoder of a model; raises ConfigError for what `SiglipVisionModel` cannot be."""
    encoder, image, sizes = loaded.config.model.encoder, loaded.config.image, encoder_sizes(loaded.config.model.encoder)
    for setting in ("class_token", "patch_norm"):
        if getattr(encoder, setting):
            raise ConfigError(f"model.encoder.{setting}: SiglipVisionModel has none; export with --format=timm")
    tensors = layout.write(_SIGLIP, own.encoder_leaves(loaded), sizes.patch)
    tensors = {_PREFIX + name: tensor for name, tensor in tensors.items()}
    config = {
        "architectures": ["SiglipVisionModel"],
        "model_type": "siglip_vision_model",
        "hidden_size": sizes.width,
        "intermediate_size": sizes.mlp_dim,
        "num_hidden_layers": sizes.depth,
        "num_attention_heads": sizes.heads,
        "num_channels": 3,
        "image_size": image.size,
        "patch_size": sizes.patch,
        "hidden_act": "gelu" if encoder.gelu == "exact" else "gelu_pytorch_tanh",
        "layer_norm_eps": encoder.layer_norm_epsilon,
        "vision_use_head": False,
        "torch_dtype": "float32",
    }
    square = {"height": image.size, "width": image.size}
    cropped = {"do_center_crop": True, "size": {"shortest_edge": image.size}, "crop_size": square}
    preprocessor = {
        "image_processor_type": "SiglipImageProcessor" if image.resize == "resize" else "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "resample": _BILINEAR,
        **({"size": square} if image.resize == "resize" else cropped),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [value / 255 for value in image.mean],
        "image_std": [value / 255 for value in image.std],
    }
    safetensors.write(out / own.WEIGHTS, tensors, {"format": "pt"})
    (out / own.CONFIG).write_text(json.dumps(config, indent=2))
    (out / PREPROCESSOR).write_text(json.dumps(preprocessor, indent=2))


def _image(folder: epath.Path, size: int) -> sections.Image | None:
    try:
        found = json.loads((folder / PREPROCESSOR).read_text())
    except FileNotFoundError:
        return None
    mean, std = (tuple(255.0 * value for value in found[key]) for key in ("image_mean", "image_std"))
    return sections.Image(size=size, mean=mean, std=std, resize="crop" if found.get("do_center_crop") else "resize")
