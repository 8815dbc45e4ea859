"""Every text of a list beside every image of a source: what zero-shot classification and retrieval rank.

An image is encoded once, and so is a text where the objective compares embeddings; else a decoder reads every text
beside every image, some texts at a time. Beside a likelihood stands that of the text alone, of training images.

Shapes: B images of a batch, N of the source, T texts, C texts at once, E width of an embedding, L tokens, M images of
a bank.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mdc_jax.data.batch import padded_captions
from mdc_jax.evaluators.base import GlobalBatch, Subject, extract, to_host
from mdc_jax.evaluators.image_bank import encode
from mdc_jax.objectives.base import Features, Objective, Params, Score
from mdc_jax.scoring.blind import EXPONENTS, blind
from mdc_jax.training import sharding

CAPTION, TOKEN = "caption", "token"
SIMILARITY = "similarity"  # the kind of scores that are no log-probabilities
_SCORE_SEED = 24

Captions = Mapping[str, jax.Array]


class Column(NamedTuple):
    """How texts are compared: by log p(text | image) - exponent log p(text), of the text or by token of it."""

    exponent: float
    per: str


FIRST = Column(EXPONENTS[0], CAPTION)  # the score as it is


class Pairs(NamedTuple):
    """The scores of a scorer, of a kind as in `Score`, and what was carried of the images."""

    kind: str
    value_NxT: np.ndarray
    blind_T: np.ndarray | None  # log p(text); None for similarities
    length_T: np.ndarray  # tokens, EOS included
    carried: Mapping[str, np.ndarray]  # "id" and labels

    def columns(self) -> Iterator[tuple[Column, np.ndarray]]:
        """The scores f64[N, T] by column; similarities have the first one alone."""
        value_NxT = self.value_NxT.astype(np.float64)
        if self.blind_T is None:
            yield FIRST, value_NxT
            return
        for exponent in EXPONENTS:
            debiased_NxT = value_NxT - exponent * self.blind_T[None]
            yield Column(exponent, CAPTION), debiased_NxT
            yield Column(exponent, TOKEN), debiased_NxT / self.length_T[None]


def tokens(subject: Subject, captions: Sequence[str]) -> list[tuple[int, ...]]:
    """The ids of captions, EOS included; longer ones keep their first tokens, as in training."""
    return [tuple(subject.tokenizer.encode(caption, subject.config.data.max_tokens)) for caption in captions]


def pairs(
    subject: Subject,
    spec: str,
    texts: Sequence[Sequence[int]],
    scorer: str,
    bank: Features,
    *,
    count: int,
    batch_size: int,
    texts_at_once: int,
    labels: tuple[str, ...] = (),
) -> Pairs:
    """Scores the first `count` images of a source with T texts; the same on every host.

    Args:
      subject: what is evaluated.
      spec: the source.
      texts: ids, see `tokens`.
      scorer: one of the objective's.
      bank: see `image_bank.training_images`.
      count: images; those that cannot be read are left out.
      batch_size: images, over all hosts.
      texts_at_once: C, read beside each image of a batch.
      labels: families to carry.

    Raises Interrupted between batches.
    """
    objective, params = subject.objective, subject.params
    length_T = np.array([len(ids) for ids in texts], np.int32)
    chunks = _chunks(subject, texts, min(texts_at_once, len(texts)))
    embedded = [_embed(objective, params, chunk) for chunk in chunks]
    kinds = set()

    def rows(batch: GlobalBatch, _: int) -> dict[str, jax.Array]:
        features = encode(objective, params, batch["image"])
        scores = [_score(objective, scorer, params, features, *both) for both in zip(chunks, embedded, strict=True)]
        kinds.add(scores[0].kind)
        return {"score": jnp.concatenate([score.value for score in scores], axis=1)}

    found = extract(subject, spec, rows, count=count, batch_size=batch_size, labels=labels)
    (kind,) = kinds
    without = None
    if kind != SIMILARITY:
        alone = [to_host(_alone(objective, scorer, params, bank, chunk)) for chunk in chunks]
        without = np.concatenate(alone)[: len(texts)].astype(np.float64)
    return Pairs(kind, found.pop("score")[:, : len(texts)], without, length_T, found)


def _chunks(subject: Subject, texts: Sequence[Sequence[int]], size: int) -> list[Captions]:
    """The texts, `size` at a time, on every device; the first one fills the last chunk up."""
    everywhere, most = sharding.replicated(subject.mesh), subject.config.data.max_tokens
    found = []
    for start in range(0, len(texts), size):
        some = [*texts[start : start + size]]
        some += [texts[0]] * (size - len(some))
        chunk = {name: rows[0] for name, rows in padded_captions([some], most).items()}
        found.append(jax.device_put(chunk, everywhere))
    return found


@functools.partial(jax.jit, static_argnums=0)
def _embed(objective: Objective, params: Params, chunk: Captions) -> jax.Array | None:
    return objective.embed_texts(params, chunk)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _score(
    objective: Objective, scorer: str, params: Params, features: Features, chunk: Captions, embedded: jax.Array | None
) -> Score:
    """f32[B, C]. All texts of an image have the same random numbers, and so have the images of different batches."""
    if embedded is not None:
        value = objective.embed_images(params, features) @ embedded.T
        return Score(value, jnp.zeros_like(value), SIMILARITY)
    count = len(features["pooled"])
    captions = {name: jnp.broadcast_to(rows[None], (count, *rows.shape)) for name, rows in chunk.items()}
    score = objective.scorers[scorer](params, features, captions, jax.random.key(_SCORE_SEED))
    return Score(score.value, score.standard_error, score.kind)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _alone(objective: Objective, scorer: str, params: Params, bank: Features, chunk: Captions) -> jax.Array:
    """log p(text), f32[C]."""
    captions = {name: rows[:, None] for name, rows in chunk.items()}
    return blind(objective.scorers[scorer], params, bank, captions, jax.random.key(_SCORE_SEED)).value[:, 0]
