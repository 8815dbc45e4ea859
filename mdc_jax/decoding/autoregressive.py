"""Writes from left to right.

Shapes: B captions, L tokens, V vocabulary.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mdc_jax.decoding.masked import choose


def decode(
    predict: Callable[[jax.Array, jax.Array], jax.Array],
    batch: int,
    max_tokens: int,
    key: jax.Array,
    *,
    eos_id: int,
    pad_id: int,
    temperature: float = 0.0,
) -> jax.Array:
    """Writes token by token until every caption has its EOS, the last place at the latest.

    Args:
      predict: (i32[B, L], i32[] position) → f32[B, V], logits of the token at a position from those before it.
      temperature: of the draw of a token; 0 takes the likeliest.

    Returns i32[B, L], EOS included, then PAD.
    """
    last = max_tokens - 1

    def unfinished(state: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        _, done, position = state
        return (position < max_tokens) & ~done.all()

    def step(state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        tokens, done, position = state
        logits = predict(tokens, position).at[:, pad_id].set(-jnp.inf)
        token = choose(logits, jax.random.fold_in(key, position), temperature)
        token = jnp.where(done, pad_id, jnp.where(position == last, eos_id, token))
        return tokens.at[:, position].set(token), done | (token == eos_id), position + 1

    start = jnp.full((batch, max_tokens), pad_id), jnp.zeros(batch, bool), jnp.zeros((), jnp.int32)
    return jax.lax.while_loop(unfinished, step, start)[0]
