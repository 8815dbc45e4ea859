"""Which random numbers captions of an image share.

Shapes: B images, C captions of an image, L tokens.
"""

import jax
import jax.numpy as jnp


def aligned_positions(tokens: jax.Array, length: jax.Array) -> jax.Array:
    """For every token the place, in 0 ... 2 L - 1, of the random number that it reads; i32[B, C, L].

    A caption and the first one of its image share places in their common prefix, counted from the
    left, and in their common suffix, counted from the right, also where their lengths differ. What lies
    between shares places as far as the first caption has tokens there. No caption uses a place twice.

    Args:
      tokens: i32[B, C, L].
      length: i32[B, C], tokens of each caption, pads not counted.
    """
    size = tokens.shape[-1]
    place = jnp.arange(size)[None, None]
    first, own = length[:, :1], length
    shortest = jnp.minimum(first, own)
    prefix = _run((tokens == tokens[:, :1]) & (place < shortest[..., None]))
    backwards = jnp.take_along_axis(tokens, jnp.maximum(length[..., None] - 1 - place, 0), axis=-1)
    suffix = _run((backwards == backwards[:, :1]) & (place < shortest[..., None]))
    suffix = jnp.minimum(suffix, shortest - prefix)

    own, first, prefix, suffix = (x[..., None] for x in (own, first, prefix, suffix))
    in_suffix = (place >= own - suffix) & (place < own)
    shared = (place < prefix) | ((place < own - suffix) & (place < first - suffix))
    return jnp.where(in_suffix, place + first - own, jnp.where(shared, place, size + place))


def _run(same: jax.Array) -> jax.Array:
    """How many of bool[..., L] are true before the first that is false."""
    return jnp.cumprod(same, axis=-1).sum(-1)
