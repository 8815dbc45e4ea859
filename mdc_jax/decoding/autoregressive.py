"""Writes from left to right.

A model is called once for every place, with what it keeps of the places before it, as keys and values.

Shapes: B captions, K beams, L tokens, V vocabulary.
"""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp

from mdc_jax.config import sections
from mdc_jax.decoding import sampling

Kept = TypeVar("Kept")
# (i32[B, K] tokens at the place before, i32[] place, kept) → (f32[B, K, V] logits of the token there, kept)
Predict = Callable[[jax.Array, jax.Array, Kept], tuple[jax.Array, Kept]]


def decode(
    predict: Predict,
    start: Kept,
    batch: int,
    max_tokens: int,
    key: jax.Array,
    settings: sections.Decoding = sections.Decoding(),
    *,
    start_id: int,
    eos_id: int,
    pad_id: int,
) -> tuple[jax.Array, jax.Array]:
    """Writes token by token until every caption has its EOS, the last place at the latest; K is 1.

    Args:
      start: what the model keeps before the first place, where `start_id` is read.
      settings: temperature and top-p of the draw of a token; PAD is never written.

    Returns i32[B, L], EOS included, then PAD, and log p of each token, f32[B, L], 0 at pads.
    """

    def unfinished(state: tuple) -> jax.Array:
        _, _, done, _, place = state
        return (place < max_tokens) & ~done.all()

    def step(state: tuple) -> tuple:
        tokens, log_prob, done, kept, place = state
        logits, kept = predict(_before(tokens, place, start_id)[:, None], place, kept)
        logits = logits[:, 0]
        keys = jax.random.split(jax.random.fold_in(key, place), batch)
        allowed = logits.at[:, pad_id].set(-jnp.inf)
        token = sampling.choose(allowed, keys, settings.temperature, settings.top_p)
        token = jnp.where(place == max_tokens - 1, eos_id, token)
        own = jnp.where(done, 0.0, sampling.log_probability(logits, token))
        token = jnp.where(done, pad_id, token)
        return tokens.at[:, place].set(token), log_prob.at[:, place].set(own), done | (token == eos_id), kept, place + 1

    tokens, log_prob = jnp.full((batch, max_tokens), pad_id, jnp.int32), jnp.zeros((batch, max_tokens))
    state = tokens, log_prob, jnp.zeros(batch, bool), start, jnp.zeros((), jnp.int32)
    return jax.lax.while_loop(unfinished, step, state)[:2]


def search(
    predict: Predict,
    of_beams: Callable[[Kept, jax.Array], Kept],
    start: Kept,
    shape: tuple[int, int],
    max_tokens: int,
    *,
    start_id: int,
    eos_id: int,
    pad_id: int,
) -> tuple[jax.Array, jax.Array]:
    """The likeliest caption that a search with K beams finds.

    Beams are ranked by log p of all their tokens, which is not divided by their number [our choice]: what is
    looked for is the mode of the model's distribution, and a long caption has no advantage. A finished caption keeps
    its beam; the search ends when the best one is finished, since no other can still come to exceed it.

    Args:
      of_beams: what is kept of the beams that i32[B, K] names.
      shape: B and K.

    Returns i32[B, L] and log p of each token, f32[B, L], as `decode` does.
    """
    batch, beams = shape

    def unfinished(state: tuple) -> jax.Array:
        _, _, _, done, _, place = state
        return (place < max_tokens) & ~done[:, 0].all()

    def step(state: tuple) -> tuple:
        tokens, log_prob, score, done, kept, place = state
        logits, kept = predict(_before(tokens, place, start_id), place, kept)
        log_p = jax.nn.log_softmax(logits, axis=-1).at[..., pad_id].set(-jnp.inf)
        column = jnp.arange(log_p.shape[-1])[None, None]
        log_p = jnp.where((place == max_tokens - 1) & (column != eos_id), -jnp.inf, log_p)
        log_p = jnp.where(done[..., None], jnp.where(column == pad_id, 0.0, -jnp.inf), log_p)
        ranked = (score[..., None] + log_p).reshape(batch, -1)
        score, best = jax.lax.top_k(ranked, beams)
        parent, token = best // log_p.shape[-1], best % log_p.shape[-1]
        own = jnp.take_along_axis(log_p.reshape(batch, -1), best, axis=1)

        def inherited(x: jax.Array) -> jax.Array:
            return jnp.take_along_axis(x, parent.reshape(batch, beams, *[1] * (x.ndim - 2)), axis=1)

        tokens, log_prob = inherited(tokens).at[..., place].set(token), inherited(log_prob).at[..., place].set(own)
        done = inherited(done) | (token == eos_id)
        return tokens, log_prob, score, done, of_beams(kept, parent), place + 1

    tokens, log_prob = jnp.full((*shape, max_tokens), pad_id, jnp.int32), jnp.zeros((*shape, max_tokens))
    score = jnp.full(shape, -jnp.inf).at[:, 0].set(0.0)  # all beams are one at first
    state = tokens, log_prob, score, jnp.zeros(shape, bool), start, jnp.zeros((), jnp.int32)
    tokens, log_prob, *_ = jax.lax.while_loop(unfinished, step, state)
    return tokens[:, 0], log_prob[:, 0]


def _before(tokens: jax.Array, place: jax.Array, start_id: int) -> jax.Array:
    """The tokens [...] at the place before `place`, of i32[..., L]."""
    return jnp.where(place == 0, start_id, tokens[..., jnp.maximum(place - 1, 0)])
