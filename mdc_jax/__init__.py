"""Masked Diffusion Captioning (arXiv 2510.26799) in JAX: visual features learned from captions."""

import os
import typing

if typing.TYPE_CHECKING:
    from mdc_jax import inference

__version__ = "0.1.0"


def load(path: str | os.PathLike[str], *, step: int | None = None, batch_size: int = 32) -> "inference.Model":
    """Loads a run, at its latest checkpoint or that of `step`, an export, or a released encoder.

    What comes encodes images when it is called, and has `.caption` and `.score`, which raise ConfigError where the
    model cannot.
    """
    from mdc_jax import inference  # heavy, and whoever imports a part of the package does not need it

    return inference.load(path, step=step, batch_size=batch_size)
