"""From the decoder's hidden states to logits and cross-entropy.

Everything that touches B x L x V numbers is here. Shapes: ... any leading axes, D width, V vocabulary.
"""

import jax
import jax.numpy as jnp
import optax


def logits(hidden: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """[..., D] x f32[D, V] + f32[V] → f32[..., V], multiplied in the dtype of `hidden`, summed in float32."""
    rows = hidden.reshape(-1, hidden.shape[-1])  # see mdc_jax/models/layers.py: Dense
    product = jnp.matmul(rows, kernel.astype(hidden.dtype), preferred_element_type=jnp.float32) + bias[None]
    return product.reshape(*hidden.shape[:-1], -1)


def cross_entropy(
    hidden: jax.Array, kernel: jax.Array, bias: jax.Array, targets: jax.Array, where: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Scores predictions of `targets` i32[...] from `hidden` [..., D], where `where` bool[...] is true.

    Returns -log p(target) in nats, f32[...], and whether the target is the likeliest token,
    bool[...]; 0 and false elsewhere.
    """
    scores = logits(hidden, kernel, bias)
    nll = optax.softmax_cross_entropy_with_integer_labels(scores, targets)
    return jnp.where(where, nll, 0.0), where & (scores.argmax(-1) == targets)
