"""AdamW, and CapPa's Adafactor, as vision models train with them: warm-up, cosine, decay on kernels only, clipping."""

import re
from collections.abc import Callable
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
    Raises ConfigError for a rule that names nothing, and for rules that freeze everything.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(params)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]
    for pattern, _ in rules:
        if not any(re.search(pattern, name) for name in names):
            raise ConfigError(
                f'optimizer.lr_multipliers: "{pattern}" is in no name of a parameter; they are {", ".join(names)}'
            )
    values = [next((factor for pattern, factor in rules if re.search(pattern, name)), 1.0) for name in names]
    if names and not any(values):
        raise ConfigError(f"optimizer.lr_multipliers={rules!r}: every parameter is frozen, so that nothing would learn")
    return jax.tree.unflatten(structure, values)


def trainable(rules: Rules, params: Any) -> Any:
    """True for the parameters that are not frozen."""
    return jax.tree.map(bool, multipliers(rules, params))


def without_frozen(rules: Rules, gradient: Any) -> Any:
    """The gradient, 0 of frozen parameters: what leads only to those is then never computed."""
    return jax.tree.map(lambda moves, g: g if moves else jnp.zeros_like(g), trainable(rules, gradient), gradient)


def describe_rules(rules: Rules, params: Any) -> str:
    """A line for each multiplier other than 1, with how many parameters it is for, and of which parts of the model."""
    sizes: dict[float, dict[str, int]] = {}
    for (path, factor), leaf in zip(
        jax.tree.leaves_with_path(multipliers(rules, params)), jax.tree.leaves(params), strict=True
    ):
        parts = sizes.setdefault(factor, {})
        parts[path[0].key] = parts.get(path[0].key, 0) + leaf.size
    return "\n".join(
        f"{sum(parts.values()) / 1e6:.2f} M parameters ({', '.join(parts)}) "
        + (f"learn at {factor:g} of the rate" if factor else "are frozen")
        for factor, parts in sorted(sizes.items())
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

    The decay of second moments rises as 1 - step^-0.8 up to `decay_cap`. Momentum is a mean of the scaled gradients,
    kept in bfloat16.
    """
    return optax.chain(
        scale_by_factored_rms(lambda step: jnp.minimum(decay_cap, 1.0 - (step + 1.0) ** -0.8)),
        optax.ema(momentum, debias=False, accumulator_dtype=jnp.bfloat16),
    )


def scale_by_factored_rms(decay: Callable[[jax.Array], jax.Array]) -> optax.GradientTransformation:
    """Divides gradients by the root of a running mean of their squares, of which no more is kept than has to be.

    Those are the means of rows and of columns where the two longest axes have 32 entries or more. As Optax's function,
    but of stacked layers, each by itself: Optax takes the layers of a deep model for rows. Where there are fewer than
    32 layers both have the same state.

    Args:
      decay: steps done → share of the mean that is kept.
    """

    def start(path: tuple[Any, ...], param: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        axes, nothing = _factored_axes(path, param.shape), jnp.zeros(1, param.dtype)
        if axes is None:
            return nothing, nothing, jnp.zeros_like(param)
        shorter, longer = axes
        return jnp.zeros_like(param.mean(longer)), jnp.zeros_like(param.mean(shorter)), nothing

    def init(params: Any) -> optax.FactoredState:
        moments = _apart(jax.tree_util.tree_map_with_path(start, params), params, 3)
        return optax.FactoredState(jnp.zeros((), jnp.int32), *moments)

    def update(gradient: Any, state: optax.FactoredState, params: Any = None) -> tuple[Any, optax.FactoredState]:
        share = decay(state.count)

        def step(
            path: tuple[Any, ...], g: jax.Array, row: jax.Array, column: jax.Array, whole: jax.Array
        ) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
            axes, square = _factored_axes(path, g.shape), jnp.square(g) + 1e-30
            if axes is None:
                whole = share * whole + (1 - share) * square
                return g * whole**-0.5, row, column, whole
            shorter, longer = axes
            row = share * row + (1 - share) * square.mean(longer)
            column = share * column + (1 - share) * square.mean(shorter)
            rows, columns = jnp.expand_dims(row, longer), jnp.expand_dims(column, shorter)
            return g * (rows / rows.mean(shorter, keepdims=True)) ** -0.5 * columns**-0.5, row, column, whole

        found = jax.tree_util.tree_map_with_path(step, gradient, state.v_row, state.v_col, state.v)
        scaled, *moments = _apart(found, gradient, 4)
        return scaled, optax.FactoredState(optax.safe_increment(state.count), *moments)

    return optax.GradientTransformation(init, update)


def _factored_axes(path: tuple[Any, ...], shape: tuple[int, ...]) -> tuple[int, int] | None:
    """The two longest axes of a parameter, or of a layer of stacked ones, the longest last; None where one is short."""
    stacked = any(key.key == "blocks" for key in path)  # [depth, ...]
    axes = sorted(range(int(stacked), len(shape)), key=shape.__getitem__)[-2:]
    return (axes[0], axes[1]) if len(axes) == 2 and shape[axes[0]] >= 32 else None


def _apart(found: Any, like: Any, count: int) -> tuple[Any, ...]:
    """`count` trees from one that has that many arrays where `like` has one."""
    return jax.tree.transpose(jax.tree.structure(like), jax.tree.structure((0,) * count), found)


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
