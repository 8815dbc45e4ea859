"""How well masked tokens are predicted, by the share of the caption that is masked.

Shapes: B images, C captions of an image, L tokens, S draws.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mdc_jax.ops import ranks


def by_masked_share(
    nll: Callable[[jax.Array], jax.Array], maskable: jax.Array, key: jax.Array, *, draws: int
) -> tuple[jax.Array, jax.Array]:
    """Draws masks whose share lies in each of `draws` equal parts of (0, 1], as far as n tokens allow.

    Args:
      nll: masked bool[B, C, L] → -log p of the masked tokens given the rest, f32[B, C, L], 0 elsewhere.
      maskable: bool[B, C, L], the n tokens that can be masked.
      key: of the masks.
      draws: S.

    Returns nats, the sum of -log p over masked tokens, f32[B, C, S], and how many are masked, i32[B, C, S].
    """
    total = maskable.sum(-1)
    shift_key, noise_key = jax.random.split(key)
    shares = (jnp.arange(draws)[:, None] + jax.random.uniform(shift_key, (1, maskable.shape[0]))) / draws

    def draw(inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        share, key = inputs
        size = jnp.minimum(1 + jnp.floor(share[:, None] * total).astype(jnp.int32), total)
        return nll(ranks.first(-jax.random.uniform(key, maskable.shape), maskable, size)).sum(-1), size

    nats, sizes = jax.lax.map(draw, (shares, jax.random.split(noise_key, draws)))
    return jnp.moveaxis(nats, 0, -1), jnp.moveaxis(sizes, 0, -1)
