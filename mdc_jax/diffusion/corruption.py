"""The forward process: when, which tokens, and what the decoder is shown.

Shapes: B examples, K masks of an example, ... any leading axes, L tokens.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mdc_jax.ops import ranks

Masks = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]  # see `bernoulli`


def low_discrepancy_times(key: jax.Array, batch: int, draws: int) -> jax.Array:
    """Draws times f32[B, K] in [0, 1), one in each of B K equal strata (arXiv 2107.00630, appendix I.1).

    Draw k of example i has stratum k B + i, shifted by one random offset, so that the K times of an
    example span the interval. `batch` is the global batch.
    """
    strata = jnp.arange(draws)[None] * batch + jnp.arange(batch)[:, None]
    times = jax.random.uniform(key) + strata.astype(jnp.float32) / (batch * draws)
    return jnp.where(times >= 1, times - 1, times)


def bernoulli(key: jax.Array, maskable: jax.Array, ratio: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Masks each maskable token with probability `ratio`, independently.

    Args:
      maskable: bool[..., L].
      ratio: f32[...] in [0, 1].

    Returns (masked bool[..., L], weight f32[...]): the weight, 1 / ratio, multiplies the sum over masked tokens.
    """
    masked = maskable & (jax.random.uniform(key, maskable.shape) < ratio[..., None])
    return masked, 1 / jnp.maximum(ratio, jnp.finfo(jnp.float32).tiny)


def size_biased(key: jax.Array, maskable: jax.Array, ratio: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Always masks one uniformly chosen token, and every other one with probability `ratio`.

    Of n tokens, a set of l has probability (l / n) r^(l-1) (1-r)^(n-l); times its weight n / l this
    is what `bernoulli` has, so that the expected loss is the same at every ratio. No mask is empty
    and the weight is at most n. Arguments and result as for `bernoulli`.
    """
    choice_key, bernoulli_key = jax.random.split(key)
    masked, _ = bernoulli(bernoulli_key, maskable, ratio)
    lowest = jnp.where(maskable, jax.random.uniform(choice_key, maskable.shape), 2.0).argmin(-1)
    masked |= maskable & jax.nn.one_hot(lowest, maskable.shape[-1], dtype=bool)
    return masked, _inverse_share(maskable, masked)


def stratified(key: jax.Array, maskable: jax.Array, ratio: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Masks l = 1 + floor(n ratio) of n tokens, every subset equally likely, with weight n / l.

    For ratios over [0, 1] only. There `size_biased` masks have l uniform on 1 ... n; this is the same
    law with l read off the time, which low-discrepancy times spread evenly. Arguments and result
    as for `bernoulli`.
    """
    total = maskable.sum(-1)
    size = jnp.minimum(1 + jnp.floor(total * ratio).astype(jnp.int32), total)
    masked = ranks.first(-jax.random.uniform(key, maskable.shape), maskable, size)
    return masked, _inverse_share(maskable, masked)


def whole_words(masks: Masks, starts: jax.Array) -> Masks:
    """Masks words as `masks` masks tokens: all maskable tokens of a word, or none.

    The weights are those of words. So the expected sum over masked tokens is the ELBO of a diffusion that reveals
    words, whose pieces are predicted independently: a bound on log p(text) where it is given which tokens are a word.

    Args:
      masks: one of MASKS.
      starts: bool[..., L], whether a token starts a word; the first one always does.
    """

    def draw(key: jax.Array, maskable: jax.Array, ratio: jax.Array) -> tuple[jax.Array, jax.Array]:
        place = jnp.broadcast_to(jnp.arange(starts.shape[-1]), starts.shape)
        first = jax.lax.cummax(jnp.where(starts, place, 0), axis=starts.ndim - 1)
        masked, weight = masks(key, maskable & (first == place), ratio)
        return maskable & jnp.take_along_axis(masked, first, axis=-1), weight

    return draw


def _inverse_share(maskable: jax.Array, masked: jax.Array) -> jax.Array:
    return maskable.sum(-1) / jnp.maximum(masked.sum(-1), 1).astype(jnp.float32)


MASKS: dict[str, Masks] = {"bernoulli": bernoulli, "size_biased": size_biased, "stratified": stratified}
PADDING = ("hidden", "target", "known")


def maskable_tokens(real: jax.Array, padding: str) -> jax.Array:
    """Which tokens a padding policy masks and predicts, bool[..., L], given the real ones.

    - `hidden`: the real tokens, EOS included. Pads are always shown as MASK, are attended, and are
      never targets, so that the length of a caption is not shown.
    - `target`: all L, pads too, of captions that are not empty.
    - `known`: the real tokens; nobody attends to pads, so that the length is given. It leaks into
      what is learned: for measuring that, and for log p(text | length, image).

    Raises ValueError for an unknown policy.
    """
    if padding not in PADDING:
        raise ValueError(f'padding "{padding}": choose one of {", ".join(PADDING)}')
    return jnp.broadcast_to(real.any(-1, keepdims=True), real.shape) if padding == "target" else real
