"""Fills masked tokens, some at each step: samples from a masked diffusion model.

Without time conditioning, revealing one uniformly chosen masked token per step is exact ancestral
sampling. Any other order is not, and writes better captions. Nor are fewer steps: tokens that are revealed
together are drawn independently of each other, which they are only where the model says so.

Shapes: B captions, L tokens, D width, V vocabulary.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from mdc_jax.config import sections
from mdc_jax.decoding import sampling
from mdc_jax.ops import ranks, row_chunks


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=("tokens", "masked", "log_prob", "set_at"), meta_fields=()
)
@dataclasses.dataclass(frozen=True)
class Canvas:
    """Captions as they stand: i32, bool, f32 and i32, [B, L] each."""

    tokens: jax.Array
    masked: jax.Array
    log_prob: jax.Array  # of each token when it was set, untempered; 0 where none was
    set_at: jax.Array  # the step, from 0; -1 where none was


def fill(
    predict: Callable[[jax.Array], jax.Array],
    logits: Callable[[jax.Array], jax.Array],
    tokens: jax.Array,
    masked: jax.Array,
    key: jax.Array,
    settings: sections.Decoding = sections.Decoding(),
) -> Canvas:
    """Replaces the masked tokens, as many steps as the fullest caption needs.

    Positions are chosen first, by what is known before a token is drawn, then their tokens; a token that is
    set stays, unless `settings.remask` masks it again. Where a token is not masked, its logits are never
    computed; nor are they, in random order, where it is not chosen.

    Args:
      predict: i32[B, L] → hidden states [B, L, D] of every token given the canvas.
      logits: hidden states [R, D] of any R rows → f32[R, V].
      tokens: i32[B, L], the canvas: what `predict` reads, MASK where masked.
      masked: bool[B, L], the tokens to fill.
      settings: how, but for guidance and length.
    """
    total = masked.sum(-1)
    steps = total if settings.steps == 0 else jnp.full_like(total, settings.steps)
    if settings.remask == 0:  # more steps than tokens have nothing to do
        steps = jnp.minimum(steps, total)

    def step(state: tuple[Canvas, jax.Array]) -> tuple[Canvas, jax.Array]:
        canvas, index = state
        order_key, token_key, remask_key = jax.random.split(jax.random.fold_in(key, index), 3)
        due = total * jnp.minimum(index + 1, steps) // jnp.maximum(steps, 1)  # tokens set when the step ends
        again = _masked_again(remask_key, masked & ~canvas.masked, total - due, settings.remask)
        count = due - (total - canvas.masked.sum(-1)) + again.sum(-1)

        hidden = predict(canvas.tokens)
        if _needs_no_logits(settings):
            chosen = ranks.first(jax.random.uniform(order_key, masked.shape), canvas.masked, count)
            found = _predictions(logits, hidden, chosen, token_key, settings)
        else:
            found = _predictions(logits, hidden, canvas.masked, token_key, settings)
            chosen = _chosen(found, canvas.masked, count, order_key, settings)
        return _reveal(_mask_again(canvas, again, tokens), chosen, found, index), index + 1

    start = Canvas(tokens, masked, jnp.zeros(tokens.shape), jnp.full(tokens.shape, -1))
    return jax.lax.while_loop(lambda state: state[0].masked.any(), step, (start, jnp.zeros((), jnp.int32)))[0]


def cut(tokens: jax.Array, *, eos_id: int, pad_id: int) -> jax.Array:
    """Ends captions i32[B, L] at their first EOS, with PAD behind it; one without EOS gets it as its last token."""
    tokens = tokens.at[:, -1].set(jnp.where((tokens == eos_id).any(-1), tokens[:, -1], eos_id))
    ended = jnp.cumsum(tokens == eos_id, axis=-1) - (tokens == eos_id) > 0
    return jnp.where(ended, pad_id, tokens)


def _needs_no_logits(settings: sections.Decoding) -> bool:
    """Whether positions are chosen without looking at predictions."""
    return settings.order == "random" and settings.threshold == 0 and settings.entropy_bound == 0


def _predictions(
    logits: Callable[[jax.Array], jax.Array],
    hidden: jax.Array,
    where: jax.Array,
    key: jax.Array,
    settings: sections.Decoding,
) -> dict[str, jax.Array]:
    """What is taken from each row of logits while it exists, [B, L] each; 0 where `where` bool[B, L] is false.

    "token", chosen or drawn; "log_prob", its own; and the kinds of certainty that choose positions.
    """
    kinds = {settings.order} - {"random"}
    kinds |= ({"confidence"} if settings.threshold else set()) | ({"entropy"} if settings.entropy_bound else set())

    def reduce(rows: tuple[jax.Array, jax.Array]) -> dict[str, jax.Array]:
        scores = logits(rows[0])
        token = sampling.choose(scores, rows[1], settings.temperature, settings.top_p)
        found = {"token": token, "log_prob": sampling.log_probability(scores, token)}
        return found | {kind: sampling.certainty(scores, kind) for kind in kinds}

    rows = hidden.reshape(-1, hidden.shape[-1])
    vocabulary = jax.eval_shape(logits, rows[:1]).shape[-1]
    sizes = row_chunks.of_logits(len(rows), vocabulary, share=1.0)  # no gradients compete with them for memory
    keys = jax.random.split(key, len(rows))  # a draw belongs to its place, whatever else is drawn
    found = row_chunks.over_chosen(reduce, where.reshape(-1), (rows, keys), sizes)
    return jax.tree.map(lambda x: x.reshape(where.shape), found)


def _chosen(
    found: dict[str, jax.Array], masked: jax.Array, count: jax.Array, key: jax.Array, settings: sections.Decoding
) -> jax.Array:
    """The positions that this step reveals, bool[B, L]; `count` i32[B] of them unless their certainty decides."""
    priority = jax.random.uniform(key, masked.shape) if settings.order == "random" else found[settings.order]
    if settings.threshold:
        sure = masked & (found["confidence"] > settings.threshold)
        return sure | ranks.first(priority, masked, jnp.ones_like(count))
    if settings.entropy_bound:
        count = _bounded(-found["entropy"], priority, masked, settings.entropy_bound)
    return ranks.first(priority, masked, count)


def _bounded(entropy: jax.Array, priority: jax.Array, masked: jax.Array, bound: float) -> jax.Array:
    """How many of the masked positions, by priority, have entropies whose sum without the largest is within `bound`.

    That sum bounds how far independent draws are from their joint distribution (arXiv 2505.24857,
    section 3); it only grows with their number, and is 0 for one. Returns i32[B].
    """
    order = jnp.argsort(ranks.rank(priority, masked), axis=-1)
    entropy = jnp.take_along_axis(jnp.where(masked, entropy, jnp.inf), order, axis=-1)
    excess = jnp.cumsum(entropy, axis=-1) - jax.lax.cummax(entropy, axis=1)
    return jnp.maximum(jnp.sum(jnp.where(jnp.isfinite(entropy), excess, jnp.inf) <= bound, axis=-1), 1)


def _masked_again(key: jax.Array, set_: jax.Array, room: jax.Array, share: float) -> jax.Array:
    """Positions bool[B, L] among those that are set that a step masks again: a `share` of them, at random.

    At most `room` i32[B], the tokens that are masked when the step ends: ReMDM's cap of its rate
    (arXiv 2503.00307, equation 8), in numbers of tokens.
    """
    if share == 0:
        return jnp.zeros_like(set_)
    round_key, order_key = jax.random.split(key)
    wanted = jnp.floor(share * set_.sum(-1) + jax.random.uniform(round_key, room.shape)).astype(jnp.int32)
    return ranks.first(jax.random.uniform(order_key, set_.shape), set_, jnp.minimum(wanted, room))


def _mask_again(canvas: Canvas, again: jax.Array, start: jax.Array) -> Canvas:
    # What it said of these tokens is written over when they are set again, as all are in the end.
    return dataclasses.replace(canvas, tokens=jnp.where(again, start, canvas.tokens), masked=canvas.masked | again)


def _reveal(canvas: Canvas, chosen: jax.Array, found: dict[str, jax.Array], index: jax.Array) -> Canvas:
    return Canvas(
        jnp.where(chosen, found["token"], canvas.tokens),
        canvas.masked & ~chosen,
        jnp.where(chosen, found["log_prob"], canvas.log_prob),
        jnp.where(chosen, index, canvas.set_at),
    )
