"""Which tokens come first, for many short texts at once.

Shapes: ... any leading axes, L tokens.
"""

import jax
import jax.numpy as jnp


def first(priority: jax.Array, among: jax.Array, count: jax.Array) -> jax.Array:
    """The `count` i32[...] of the tokens `among` bool[..., L] of highest priority f32[..., L], bool[..., L]; of equals,
    the first."""
    return among & (rank(priority, among) < count[..., None])


def rank(priority: jax.Array, among: jax.Array) -> jax.Array:
    """How many tokens come before each, i32[..., L]: those of `among` do, by priority, of equals the first.

    NaN is lowest, so that something is first always. L^2 comparisons of short texts are one kernel, a sort is many.
    """
    priority = jnp.where(among, jnp.nan_to_num(priority, nan=jnp.finfo(priority.dtype).min), -jnp.inf)
    own, other = priority[..., :, None], priority[..., None, :]
    earlier = jnp.tri(priority.shape[-1], k=-1, dtype=bool)  # own, other
    earlier = jnp.expand_dims(earlier, range(priority.ndim - 1))
    return jnp.sum((other > own) | ((other == own) & earlier), axis=-1)
