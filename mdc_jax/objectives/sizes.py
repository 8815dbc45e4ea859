"""From the model's section to the arguments of its parts."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from mdc_jax.config import sections
from mdc_jax.models import vit
from mdc_jax.models.layers import has_bfloat16
from mdc_jax.ops.cross_entropy import Split


def computation(model: sections.Model, split: Split | None) -> dict[str, Any]:
    """How and where a model is computed, which does not change what it is."""
    rows = NamedSharding(split.mesh, PartitionSpec(split.batch)) if split else None
    return {
        "dtype": compute_dtype(model.dtype),
        "scan": loops_over_layers(model.scan),
        "remat": model.remat == "on",
        "rows": rows,
    }


def loops_over_layers(scan: str) -> bool:
    """Of `model.scan`; "auto" is a loop but on GPUs."""
    return jax.default_backend() != "gpu" if scan == "auto" else scan == "on"


def compute_dtype(name: str) -> jnp.dtype:
    """ "auto" is bfloat16 where that is faster, see `layers.has_bfloat16`, and float32 elsewhere."""
    if name == "auto":
        name = "bfloat16" if has_bfloat16(jax.devices()[0]) else "float32"
    return jnp.dtype(name)


def encoder_sizes(section: sections.Encoder) -> vit.Sizes:
    """The variant's sizes, with those that are given put in their place."""
    given = {name: getattr(section, name) for name in ("patch", "width", "depth", "heads", "mlp_dim")}
    return dataclasses.replace(vit.sizes(section.variant), **{name: size for name, size in given.items() if size})


def decoder_sizes(model: sections.Model) -> dict[str, int]:
    """The encoder's sizes at half its depth, with those that are given put in their place."""
    encoder = encoder_sizes(model.encoder)
    default = {
        "width": encoder.width,
        "depth": max(encoder.depth // 2, 1),
        "heads": encoder.heads,
        "mlp_dim": encoder.mlp_dim,
    }
    return {name: getattr(model.decoder, name) or size for name, size in default.items()}


def text_encoder_sizes(model: sections.Model) -> dict[str, int]:
    """The decoder's sizes, with those that are given put in their place."""
    return {name: getattr(model.text_encoder, name) or size for name, size in decoder_sizes(model).items()}
