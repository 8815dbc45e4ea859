"""Which tokens of a text are real.

Shapes: ... any leading axes, L tokens.
"""

import jax
import jax.numpy as jnp


def real_tokens(length: jax.Array, max_tokens: int) -> jax.Array:
    """Which of L tokens are no pads, bool[..., L], in texts of `length` i32[...] tokens."""
    return jax.lax.broadcasted_iota(jnp.int32, (*length.shape, max_tokens), length.ndim) < length[..., None]
