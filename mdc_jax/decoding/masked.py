"""Fills masked tokens one at a time: samples from a masked diffusion model.

Without time conditioning, revealing one uniformly chosen masked token per step is exact ancestral
sampling; a confidence order is not, and writes better captions.

Shapes: B captions, L tokens, V vocabulary.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

ORDERS = ("confidence", "random")


def choose(logits: jax.Array, key: jax.Array, temperature: float) -> jax.Array:
    """One index i32[...] from logits f32[..., V]: the largest at temperature 0, else a draw.

    The default mode of `jax.random.categorical` caps float32 Gumbel noise, which makes rare tokens too rare.
    """
    if temperature == 0:
        return logits.argmax(-1)
    return jax.random.categorical(key, logits / temperature, mode="high")


def fill(
    predict: Callable[[jax.Array], jax.Array],
    tokens: jax.Array,
    masked: jax.Array,
    key: jax.Array,
    *,
    temperature: float = 0.0,
    order: str = "confidence",
) -> jax.Array:
    """Replaces the masked tokens, one per step and caption, as many steps as the fullest caption needs.

    The position is chosen first, then its token; a token that is set stays.

    Args:
      predict: i32[B, L] → f32[B, L, V], logits of every token given the canvas.
      tokens: i32[B, L], the canvas: what `predict` reads, MASK where masked.
      masked: bool[B, L], the tokens to fill.
      temperature: of the draw of a token; 0 takes the likeliest.
      order: "confidence": the position whose likeliest token is likeliest, by the untempered
        softmax; "random": uniform.

    Returns i32[B, L]. Raises ValueError for an unknown order.
    """
    if order not in ORDERS:
        raise ValueError(f'order "{order}": choose one of {", ".join(ORDERS)}')
    rows = jnp.arange(tokens.shape[0])

    def step(state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        tokens, masked, key = state
        key, order_key, token_key = jax.random.split(key, 3)
        logits = predict(tokens)
        if order == "confidence":
            priority = logits.max(-1) - jax.nn.logsumexp(logits, axis=-1)
        else:
            priority = jax.random.uniform(order_key, masked.shape)
        position = jnp.where(masked, priority, -jnp.inf).argmax(-1)
        token = choose(logits[rows, position], token_key, temperature)
        token = jnp.where(masked[rows, position], token, tokens[rows, position])  # a full caption stays as it is
        return tokens.at[rows, position].set(token), masked.at[rows, position].set(False), key

    return jax.lax.while_loop(lambda state: state[1].any(), step, (tokens, masked, key))[0]


def cut(tokens: jax.Array, *, eos_id: int, pad_id: int) -> jax.Array:
    """Ends captions i32[B, L] at their first EOS, with PAD behind it; one without EOS gets it as its last token."""
    tokens = tokens.at[:, -1].set(jnp.where((tokens == eos_id).any(-1), tokens[:, -1], eos_id))
    ended = jnp.cumsum(tokens == eos_id, axis=-1) - (tokens == eos_id) > 0
    return jnp.where(ended, pad_id, tokens)
