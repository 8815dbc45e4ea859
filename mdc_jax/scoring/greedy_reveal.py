"""The log-likelihood of a caption under a sampler that reveals the surest position first.

Shapes: B images, C captions of an image, L tokens.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mdc_jax.scoring.score import Score, exact


def greedy_reveal(predict: Callable[[jax.Array], tuple[jax.Array, jax.Array]], maskable: jax.Array) -> Score:
    """Sum of log p(token | tokens revealed before it), in the order in which the model is sure (arXiv 2603.01367).

    At each step the masked position is revealed whose likeliest token, whichever it is, is the
    likeliest. What the hidden tokens are does not enter the choice, so that the probabilities of all
    texts add up to 1: this is the exact log-likelihood of a sampler of that order at temperature 1,
    which is another distribution than that of random orders. Takes n passes.

    Args:
      predict: masked bool[B, C, L] → -log p of the masked tokens, and of the likeliest token there,
        given the rest, f32[B, C, L] each.
      maskable: bool[B, C, L], the n tokens that are scored.
    """
    places = jnp.arange(maskable.shape[-1])[None, None]

    def reveal(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        masked, value = state
        nll, surest = predict(masked)
        place = jnp.where(masked, surest, jnp.inf).argmin(-1)
        revealed = masked & (places == place[..., None])
        return masked & ~revealed, value - jnp.where(revealed, nll, 0.0).sum(-1)

    start = maskable, jnp.zeros(maskable.shape[:-1])
    return exact(jax.lax.while_loop(lambda state: state[0].any(), reveal, start)[1])
