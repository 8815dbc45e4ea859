"""Guidance without a classifier (arXiv 2207.12598): away from what is likely of any image.

Shapes: ... any leading axes, D width.
"""

import jax
import jax.numpy as jnp


def guided(conditional: jax.Array, unconditional: jax.Array | None = None, *, weight: float) -> jax.Array:
    """Hidden states [..., D] whose logits are u + (1 + w) (c - u), c and u being those of the arguments'.

    The output layer is affine and the factors 1 + w and -w sum to 1, so that hidden states can be mixed
    in place of logits, and the vocabulary is multiplied once. No forbidden token, of logit -inf, gives NaN.
    Without the second, the first stays as it is.
    """
    if unconditional is None:
        return conditional
    c, u = conditional.astype(jnp.float32), unconditional.astype(jnp.float32)
    return (u + (1 + weight) * (c - u)).astype(conditional.dtype)
