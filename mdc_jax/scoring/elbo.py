"""Monte-Carlo lower bound on the log-likelihood of a caption under a masked model.

Shapes: B images, C captions of an image, L tokens.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mdc_jax.diffusion import corruption


def elbo(
    nll: Callable[[jax.Array], jax.Array],
    maskable: jax.Array,
    key: jax.Array,
    *,
    replicates: int = 8,
    samples: int = 4,
) -> tuple[jax.Array, jax.Array]:
    """Estimates sum_l (1/n) E[(n/l) sum over l masked tokens of log p(token | rest)], l = 1 ... n.

    That is the negative ELBO over all masking ratios with its time integrated out. The number masked
    is stratified: a replicate takes one l from each of `samples` equal parts of 1 ... n, and the
    spread of the independent replicates gives the standard error. Captions of the same image share
    quantiles and the order in which positions are masked, so that their differences vary less.

    Args:
      nll: masked bool[B, C, L] → -log p of the masked tokens given the rest, f32[B, C, L], 0 elsewhere.
      maskable: bool[B, C, L], the n tokens that are scored; where there are none, the bound is 0.

    Returns the bound in nats and its standard error, f32[B, C] each.
    """
    batch = maskable.shape[0]
    total = maskable.sum(-1)
    shift_key, noise_key = jax.random.split(key)
    shift = jax.random.uniform(shift_key, (replicates, 1, batch))
    quantiles = (jnp.arange(samples)[None, :, None] + shift) / samples

    def draw(inputs: tuple[jax.Array, jax.Array]) -> jax.Array:
        quantile, key = inputs
        size = jnp.minimum(1 + jnp.floor(quantile[:, None] * total).astype(jnp.int32), total)
        noise = jax.random.uniform(key, (batch, 1, maskable.shape[-1]))
        masked = corruption.subset(noise, maskable, size)
        return total / jnp.maximum(size, 1) * nll(masked).sum(-1)

    draws = replicates * samples
    keys = jax.random.split(noise_key, draws)
    losses = jax.lax.map(draw, (quantiles.reshape(draws, batch), keys))
    means = losses.reshape(replicates, samples, *total.shape).mean(1)
    return -means.mean(0), means.std(0, ddof=1) / replicates**0.5
