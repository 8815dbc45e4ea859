"""AdamW, and CapPa's Adafactor, as vision models train with them: warm-up, cosine, decay on kernels only, clipping."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from mdc_jax.config import sections


def learning_rate(section: sections.Optimizer, warmup_steps: int, total_steps: int) -> optax.Schedule:
    """Linear warm-up from 0 to `section.lr`, then cosine decay to 0 at `total_steps`."""
    return optax.warmup_cosine_decay_schedule(0.0, section.lr, min(warmup_steps, total_steps - 1), total_steps)


def decayed(params: Any) -> Any:
    """True for the parameters that weight decay applies to: kernels, and nothing else."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def clip_by_global_norm(limit: float) -> optax.GradientTransformation:
    """Shortens a gradient whose norm is above `limit` to it.

    By one factor, which XLA multiplies in where the gradient is read. The division of Optax's function
    is computed once for all readers, into a second copy of the whole gradient.
    """

    def clip(gradient: Any, params: Any) -> Any:
        factor = limit / jnp.maximum(optax.tree.norm(gradient), limit)
        return jax.tree.map(lambda g: factor * g, gradient)

    return optax.stateless(clip)


def scale_by_adafactor(momentum: float, decay_cap: float) -> optax.GradientTransformation:
    """Adafactor without its own step size (arXiv 1804.04235), as changed for ViTs (arXiv 2106.04560, section 3.4).

    Second moments are kept as the means of rows and columns where the two longest axes have 32 entries
    or more, kernel by kernel of stacked layers; their decay rises as 1 - step^-0.8 up to `decay_cap`.
    Momentum is a mean of the scaled gradients, kept in bfloat16.
    """

    def decay(step: jax.Array, exponent: float) -> jax.Array:
        return jnp.minimum(decay_cap, 1.0 - (step + 1.0) ** -exponent)

    return optax.chain(
        optax.scale_by_factored_rms(decay_rate=0.8, decay_rate_fn=decay, min_dim_size_to_factor=32),
        optax.ema(momentum, debias=False, accumulator_dtype=jnp.bfloat16),
    )


def make_optimizer(section: sections.Optimizer, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Gradients (summed over micro-batches) to updates."""
    if section.name == "adafactor":
        scale = scale_by_adafactor(section.b1, section.b2)
        weight_decay = section.weight_decay / section.lr  # the schedule has the learning rate in it, the decay has not
    else:
        scale = optax.scale_by_adam(section.b1, section.b2)
        weight_decay = section.weight_decay
    return optax.chain(
        clip_by_global_norm(section.clip_norm) if section.clip_norm else optax.identity(),
        scale,
        optax.add_decayed_weights(weight_decay, mask=decayed),
        optax.scale_by_learning_rate(schedule),
    )
