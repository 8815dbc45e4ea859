"""Monte-Carlo estimates over masks: the lower bound on the log-likelihood, and the loss of training.

Shapes: B images, C captions of an image, L tokens, R replicates.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from mdc_jax.ops import ranks
from mdc_jax.scoring.score import Score, of_replicates


def size_law(max_tokens: int, interval: tuple[float, float]) -> np.ndarray:
    """P(at most l tokens are masked) of captions of n tokens, f64[n = 0 ... L, l = 1 ... L].

    A ratio r is uniform on the interval [a, b] and l = 1 + Binomial(n - 1, r), as with size-biased
    masks: P(l) = (I_b(l, n-l+1) - I_a(l, n-l+1)) / (n (b - a)) with the regularised incomplete beta
    function I, which is 1 / n on [0, 1].
    """
    import scipy.special  # slow to import

    low, high = interval
    n, size = np.arange(max_tokens + 1)[:, None], np.arange(1, max_tokens + 1)[None]
    rest = np.maximum(n - size, 0)
    if low == high:
        law = scipy.special.comb(n - 1, size - 1) * low ** (size - 1.0) * (1 - low) ** rest
    else:
        beta = [scipy.special.betainc(size, rest + 1, ratio) for ratio in (high, low)]
        law = (beta[0] - beta[1]) / (np.maximum(n, 1) * (high - low))
    return np.where(size < n, np.cumsum(np.where(size <= n, law, 0), axis=1), 1.0)


def elbo(
    nll: Callable[[jax.Array], jax.Array],
    maskable: jax.Array,
    key: jax.Array,
    *,
    positions: jax.Array | None = None,
    replicates: int = 8,
    samples: int = 4,
) -> Score:
    """Estimates the mean over l = 1 ... n of E[(n/l) sum over l masked tokens of log p(token | rest)].

    That is the ELBO over all masking ratios with its time integrated out (arXiv 2510.26799;
    arXiv 2406.07524, equation 10), a lower bound. The number masked is stratified: a replicate takes one l from each
    of `samples` equal parts of its law, and the spread of the independent replicates gives the
    standard error. Intervals are those of Student's t with R - 1 degrees of freedom; they cover too
    seldom where a caption has two or three words, of which few masks exist. Captions of the same
    image share quantiles of l and the order in which positions are masked, so that their differences
    vary less.

    Args:
      nll: masked bool[B, C, L] → -log p of the masked tokens given the rest, f32[B, C, L], 0 elsewhere.
      maskable: bool[B, C, L], the n tokens that are scored; where there are none, the bound is 0.
      key: the same one for scores that are compared.
      positions: i32[B, C, L] in 0 ... 2 L - 1, the random number of each token, see `aligned_positions`;
        None: its place from the left.
      replicates: R.
      samples: masks of a replicate.
    """
    losses = _losses(nll, maskable, key, (0.0, 1.0), positions, replicates, samples)
    return of_replicates(-losses, "bound")


def training_interval(
    nll: Callable[[jax.Array], jax.Array],
    maskable: jax.Array,
    key: jax.Array,
    *,
    interval: tuple[float, float],
    positions: jax.Array | None = None,
    replicates: int = 8,
    samples: int = 4,
) -> Score:
    """As `elbo`, over the masking ratios of training alone: minus the loss there, of which no bound is known.

    A model that was trained on [a, b] is asked nothing that it has not seen. Heuristic.
    """
    return of_replicates(-_losses(nll, maskable, key, interval, positions, replicates, samples), "heuristic")


def _losses(
    nll: Callable[[jax.Array], jax.Array],
    maskable: jax.Array,
    key: jax.Array,
    interval: tuple[float, float],
    positions: jax.Array | None,
    replicates: int,
    samples: int,
) -> jax.Array:
    """f32[R, B, C], each the mean of (n/l) -log p(masked tokens) over `samples` stratified masks."""
    batch, _, size = maskable.shape
    total = maskable.sum(-1)
    if positions is None:
        positions = jnp.broadcast_to(jnp.arange(size)[None, None], maskable.shape)
    law = jnp.asarray(size_law(size, interval), jnp.float32)[total]
    # Of each image by itself, so that they do not depend on how many there are.
    keys = jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(batch))
    shift = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 0), (replicates, 1)), out_axes=-1)(keys)
    quantiles = (jnp.arange(samples)[None, :, None] + shift) / samples

    def draw(inputs: tuple[jax.Array, jax.Array]) -> jax.Array:
        quantile, number = inputs
        masked_tokens = jnp.minimum(1 + (quantile[:, None, None] >= law).sum(-1), total)
        noise = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, number), (1, 2 * size)))(keys)
        noise = jnp.take_along_axis(jnp.broadcast_to(noise, (*total.shape, 2 * size)), positions, axis=-1)
        masked = ranks.first(-noise, maskable, masked_tokens)
        return total / jnp.maximum(masked_tokens, 1) * nll(masked).sum(-1)

    draws = replicates * samples
    losses = jax.lax.map(draw, (quantiles.reshape(draws, batch), 1 + jnp.arange(draws)))
    return losses.reshape(replicates, samples, *total.shape).mean(1)
