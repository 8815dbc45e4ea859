"""AdamW, and CapPa's Adafactor, as vision models train with them: warm-up, cosine, decay on kernels only, clipping."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mdc_jax.config import ConfigError, sections

Rules = tuple[tuple[str, float], ...]


def learning_rate(section: sections.Optimizer, warmup_steps: int, total_steps: int) -> optax.Schedule:
    """Linear warm-up from 0 to `section.lr`, then cosine decay to 0 at `total_steps`."""
    return optax.warmup_cosine_decay_schedule(0.0, section.lr, min(warmup_steps, total_steps - 1), total_steps)


def decayed(params: Any) -> Any:
    """True for the parameters that weight decay applies to: kernels, and nothing else."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def multipliers(rules: Rules, params: Any) -> Any:
    """What the learning rate of each parameter is multiplied by: as the first rule says whose pattern its name has.

    Names are those of checkpoints, as in "encoder/blocks/mlp/up/kernel"; 0 freezes, and 1 is for what no rule names.
    Raises ConfigError for a rule that names nothing.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(params)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]
    for pattern, _ in rules:
        if not any(re.search(pattern, name) for name in names):
            raise ConfigError(
                f'optimizer.lr_multipliers: "{pattern}" is in no name of a parameter; they are {", ".join(names)}'
            )
    values = [next((factor for pattern, factor in rules if re.search(pattern, name)), 1.0) for name in names]
    return jax.tree.unflatten(structure, values)


def trainable(rules: Rules, params: Any) -> Any:
    """True for the parameters that are not frozen."""
    return jax.tree.map(bool, multipliers(rules, params))


def without_frozen(rules: Rules, gradient: Any) -> Any:
    """The gradient, 0 of frozen parameters: what leads only to those is then never computed."""
    return jax.tree.map(lambda moves, g: g if moves else jnp.zeros_like(g), trainable(rules, gradient), gradient)


def describe_rules(rules: Rules, params: Any) -> str:
    """A line for each multiplier other than 1, with how many parameters it is for."""
    sizes: dict[float, int] = {}
    for factor, leaf in zip(jax.tree.leaves(multipliers(rules, params)), jax.tree.leaves(params), strict=True):
        sizes[factor] = sizes.get(factor, 0) + leaf.size
    return "\n".join(
        f"{size / 1e6:.2f} M parameters " + (f"learn at {factor:g} of the rate" if factor else "are frozen")
        for factor, size in sorted(sizes.items())
        if factor != 1
    )


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
    """Gradients (summed over micro-batches, 0 where frozen) to updates; frozen parameters have no state."""
    if section.name == "adafactor":
        scale = scale_by_adafactor(section.b1, section.b2)
        weight_decay = section.weight_decay / section.lr  # the schedule has the learning rate in it, the decay has not
    else:
        scale = optax.scale_by_adam(section.b1, section.b2)
        weight_decay = section.weight_decay
    clip = clip_by_global_norm(section.clip_norm) if section.clip_norm else optax.identity()
    rules = section.lr_multipliers
    if not rules:
        return optax.chain(
            clip,
            scale,
            optax.add_decayed_weights(weight_decay, mask=decayed),
            optax.scale_by_learning_rate(schedule),
        )

    def decayed_and_trainable(params: Any) -> Any:
        return jax.tree.map(lambda one, other: one and other, decayed(params), trainable(rules, params))

    def multiply(updates: Any, params: Any) -> Any:
        return jax.tree.map(lambda factor, update: factor * update, multipliers(rules, updates), updates)

    return optax.chain(
        clip,
        optax.masked(scale, lambda params: trainable(rules, params)),
        optax.add_decayed_weights(weight_decay, mask=decayed_and_trainable),
        optax.stateless(multiply),
        optax.scale_by_learning_rate(schedule),
    )
