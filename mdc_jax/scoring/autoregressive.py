"""The exact log-likelihood of a caption under a left-to-right model.

Shapes: B images, C captions of an image, L tokens.
"""

from collections.abc import Callable

import jax

from mdc_jax.scoring.score import Score, exact


def log_likelihood(nll: Callable[[jax.Array], jax.Array], real: jax.Array) -> Score:
    """Sums log p(token | tokens before it) over a caption.

    Args:
      nll: where bool[B, C, L] → -log p of these tokens given those before them, f32[B, C, L], 0 elsewhere.
      real: bool[B, C, L], all tokens but pads.

    Returns the log-likelihood in nats, f32[B, C], kind "exact".
    """
    return exact(-nll(real).sum(-1))
