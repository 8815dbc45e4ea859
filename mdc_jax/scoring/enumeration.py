"""Sums over all masks of a caption, or over those of a simple family; nothing is random.

Shapes: B images, C captions of an image, L tokens.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from mdc_jax.scoring.score import Score, exact

MOST_TOKENS = 10  # whose 1,023 masks are scored


def exhaustive(nll: Callable[[jax.Array], jax.Array], maskable: jax.Array, *, most: int = MOST_TOKENS) -> Score:
    """The bound that `mdc_jax.scoring.elbo.elbo` estimates, from all 2^n - 1 masks; kind "bound".

    For holding the estimate against it, as `python -m mdc_jax.benchmarks.scoring` does; no scorer, as most captions are
    too long for it.

    Args:
      nll: masked bool[B, C, L] → -log p of the masked tokens given the rest, f32[B, C, L], 0 elsewhere.
      maskable: bool[B, C, L], the first n tokens. A caption of which more than `most` can be masked has
        the value NaN: the number is not known when the function is compiled.
      most: the largest n, at most 10; 2^most - 1 masks are scored.

    Raises ValueError for a larger `most`.
    """
    import scipy.special  # slow to import

    if most > MOST_TOKENS:
        raise ValueError(f"most={most}: {2**most - 1:,} masks are too many; at most {MOST_TOKENS}, or estimate: `elbo`")
    size = maskable.shape[-1]
    words = min(most, size)
    every = np.arange(1, 2**words)[:, None] >> np.arange(words)[None] & 1
    every = np.pad(every, ((0, 0), (0, size - words))).astype(bool)
    total = maskable.sum(-1)
    # A set of l tokens is one of binom(n, l), and l one of n; with the weight n / l that is 1 / (l binom(n, l)).
    n, chosen = np.arange(size + 1)[:, None], np.arange(size + 1)[None]
    weight = jnp.asarray(1 / np.maximum(chosen * scipy.special.comb(n, chosen), 1), jnp.float32)

    def add(value: jax.Array, mask: jax.Array) -> tuple[jax.Array, None]:
        inside = ~(mask[None, None] & ~maskable).any(-1)  # each set of maskable tokens once
        masked = mask[None, None] & maskable & inside[..., None]
        return value - weight[total, mask.sum()] * nll(masked).sum(-1), None

    value, _ = jax.lax.scan(add, jnp.zeros(total.shape), every)
    return exact(jnp.where(total <= words, value, jnp.nan), "bound")


def one_pass(nll: Callable[[jax.Array], jax.Array], maskable: jax.Array) -> Score:
    """Sum of log p(token | no other token), all masked at once: one pass of the decoder. Heuristic.

    Arguments as for `exhaustive`, with any `maskable`.
    """
    return exact(-nll(maskable).sum(-1), "heuristic")


def pseudo_log_likelihood(nll: Callable[[jax.Array], jax.Array], maskable: jax.Array) -> Score:
    """Sum of log p(token | all others), one masked at a time (arXiv 1910.14659): L passes. Heuristic.

    Arguments as for `exhaustive`, with any `maskable`.
    """
    places = jnp.arange(maskable.shape[-1])
    losses = jax.lax.map(lambda place: nll(maskable & (places == place)[None, None]).sum(-1), places)
    return exact(-losses.sum(0), "heuristic")
