"""Which tokens of a text are real, and their order.

Shapes: ... any leading axes, L tokens.
"""

import jax
import jax.numpy as jnp

from mdc_jax.data.batch import EOS_ID


def lengths(tokens: jax.Array) -> jax.Array:
    """Tokens of texts i32[..., L] that have an EOS, with it, i32[...]."""
    return 1 + (tokens == EOS_ID).argmax(-1)


def real_tokens(length: jax.Array, max_tokens: int) -> jax.Array:
    """Which of L tokens are no pads, bool[..., L], in texts of `length` i32[...] tokens."""
    return jax.lax.broadcasted_iota(jnp.int32, (*length.shape, max_tokens), length.ndim) < length[..., None]


def words_reversed(tokens: jax.Array, length: jax.Array) -> jax.Array:
    """[..., L] with what stands at the words of texts of `length` i32[...] tokens, EOS included, in the other order.

    EOS and pads stay where they are. It is its own inverse.
    """
    place = jax.lax.broadcasted_iota(jnp.int32, tokens.shape, tokens.ndim - 1)
    last = length[..., None] - 2
    return jnp.take_along_axis(tokens, jnp.where(place <= last, last - place, place), axis=-1)
