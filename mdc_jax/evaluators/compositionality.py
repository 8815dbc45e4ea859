"""Whether a model tells hard captions apart: foils of a source, scored by every scorer of the objective.

Shapes: B foils of a batch, N of a kind, S images of a foil, C captions as in `choices.py`, L tokens, M training images.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from mdc_jax import progress
from mdc_jax.config import ConfigError, sections
from mdc_jax.config.parse import did_you_mean
from mdc_jax.data import images
from mdc_jax.data.batch import padded_captions
from mdc_jax.data.sources import open_source
from mdc_jax.data.sources.base import BadRecord, Foil, Source
from mdc_jax.evaluators import blind_decoder, choices, foil_tables
from mdc_jax.evaluators.base import Interrupted, Subject, chosen_scorers, objective_of, spec_of, to_host
from mdc_jax.evaluators.blind_decoder import BlindDecoder
from mdc_jax.evaluators.foil_tables import Blind, Result, Scored
from mdc_jax.evaluators.image_bank import encode, training_images
from mdc_jax.objectives.base import Features, Objective, Params, Score
from mdc_jax.scoring.blind import EXPONENTS, blind, debias
from mdc_jax.training import sharding

_SCORE_SEED = 24


class Compositionality:
    """Yields "<kind>/<scorer>/accuracy" and "<scorer>/accuracy", the mean over kinds, of scores as they are, and
    "<kind>/<scorer>/macro", the mean over groups, where foils have groups.

    See `choices.py` for what is counted, and `foil_tables.py` for the files.
    """

    def __init__(self, section: sections.Compositionality) -> None:
        self._section = section

    def check(self, config: sections.Config) -> None:
        """See `Evaluator`."""
        self._kinds(open_source(spec_of(config, self._section.split)))
        open_source(spec_of(config, "train"))
        chosen_scorers(self._section, objective_of(config))
        if self._section.blind_workdir:
            blind_decoder.check(config, self._section.blind_workdir)

    def run(self, subject: Subject) -> Iterator[tuple[str, float]]:
        source = open_source(subject.spec(self._section.split))
        scorers, kinds = chosen_scorers(self._section, subject.objective), self._kinds(source)
        bank = training_images(subject, self._section.blind_images)
        workdir = self._section.blind_workdir
        decoder = blind_decoder.load(subject, workdir) if workdir else None
        results = {}
        for kind in kinds:
            result = self._score(subject, source, kind, scorers, bank, decoder)
            if result is not None:
                results[kind] = result
        if not results:
            raise ConfigError(f"compositionality: {source.spec} has no foil of the kinds {', '.join(kinds)}")
        if jax.process_index() == 0:
            foil_tables.write(subject, source, results, self._section)
        for scorer in scorers:
            means = {}
            for kind, result in results.items():
                choice = choices.choices(result.scored[scorer].score.value)[choices.ACCURACY]
                means[f"{kind}/{scorer}/accuracy"] = float(choice.right_N.mean())
                if result.groups:
                    yield f"{kind}/{scorer}/macro", choice.macro(result.groups)[0]
            yield from means.items()
            yield f"{scorer}/accuracy", float(np.mean(list(means.values())))

    def _kinds(self, source: Source) -> tuple[str, ...]:
        offered = getattr(source, "foil_kinds", ())
        if not offered:
            raise ConfigError(
                f'compositionality: {source.spec} has no foils: set split to a source that has some, as "scenes:test", '
                "or leave the evaluator out"
            )
        for kind in self._section.kinds:
            if kind not in offered:
                raise ConfigError(f'compositionality: {source.spec} has no kind "{kind}"{did_you_mean(kind, offered)}')
        return self._section.kinds or tuple(offered)

    def _score(
        self,
        subject: Subject,
        source: Source,
        kind: str,
        scorers: tuple[str, ...],
        bank: Features,
        decoder: BlindDecoder | None,
    ) -> Result | None:
        """None where the source has no foil of the kind."""
        mesh, examples = subject.mesh, self._section.examples
        ways = sharding.batch_ways(mesh)
        size = -(-self._section.batch_size // ways) * ways
        foils: list[Foil] = []
        numbers: list[int] = []
        kept: list[tuple[dict[str, Scored], np.ndarray]] = []
        with progress.bar(f"{source.spec} {kind}", examples, unit=" foils") as shown:
            for index, some in enumerate(_batches(subject, source, kind, examples, size)):
                numbers += [each.number for each in some]
                if subject.should_stop():
                    raise Interrupted
                batch = sharding.to_global(_local_rows(subject, some, size), mesh, size)
                scored = _scores(subject.objective, scorers, subject.params, batch, bank, decoder, index)
                kept.append(to_host((scored, batch["length"])))
                # Images are drawn of the first ones alone: those of a large set would fill the memory.
                foils += [
                    each.foil if place < max(self._section.picture, 1) else dataclasses.replace(each.foil, images=())
                    for place, each in enumerate(some, len(foils))
                ]
                shown.update(len(some))
        if not foils:
            return None
        # What filled up the last batch is cut off.
        scored, length = jax.tree.map(lambda *rows: np.concatenate(rows)[: len(foils)], *kept)
        in_order = {name: scored[name] for name in scorers}  # jit sorts by name
        return Result(tuple(foils), tuple(numbers), length, in_order)


class _Read(NamedTuple):
    """A foil with prepared images and its number, and the ids of its captions."""

    number: int
    foil: Foil
    tokens: list[list[int]]


def _batches(subject: Subject, source: Source, kind: str, count: int, size: int) -> Iterator[list[_Read]]:
    """The first foils of a kind, up to `size` at once, but for those that cannot be read or are too long."""

    def foils() -> Iterator[_Read]:
        for index in range(count):
            try:
                foil = _foil(source, kind, index, subject.config.image)
            except IndexError:
                return
            except BadRecord as error:
                logging.warning("compositionality: foil %d of %s left out: %s", index, kind, error)
                continue
            try:
                tokens = [
                    subject.tokenizer.encode_whole(text, subject.config.data.max_tokens) for text in foil.captions
                ]
            except ValueError as error:
                logging.warning("compositionality: foil %d of %s left out: %s", index, kind, error)
                continue
            yield _Read(index, foil, tokens)

    left = foils()
    return iter(lambda: list(itertools.islice(left, size)), [])


def _foil(source: Source, kind: str, index: int, settings: sections.Image) -> Foil:
    """A foil with prepared images, u8[S, S, 3]; raises as the source, and ConfigError for a kind that it cannot make.

    Every host prepares all of them, since all have to leave out the same ones.
    """
    try:
        foil = source.foils(kind, index)
    except BadRecord:
        raise
    except ValueError as error:
        raise ConfigError(f"compositionality: {error}") from error
    return dataclasses.replace(foil, images=tuple(images.prepare(image, settings) for image in foil.images))


def _local_rows(subject: Subject, foils: Sequence[_Read], size: int) -> dict[str, np.ndarray]:
    """This host's rows of a batch: prepared `image` u8[b, S, H, W, 3], `text` i32[b, C, L] and `length` i32[b, C].

    The last foil fills the batch up.
    """
    rows = [foils[min(row, len(foils) - 1)] for row in sharding.local_rows(size, subject.mesh)]
    return {
        "image": np.stack([row.foil.images for row in rows]),
        **padded_captions([row.tokens for row in rows], subject.config.data.max_tokens),
    }


@functools.partial(jax.jit, static_argnums=(0, 1))
def _scores(
    objective: Objective,
    scorers: tuple[str, ...],
    params: Params,
    batch: Mapping[str, jax.Array],
    bank: Features,
    decoder: BlindDecoder | None,
    index: jax.Array,
) -> dict[str, Scored]:
    """Every score of a batch has the same random numbers, so that images and captions are compared at equal noise."""
    key = jax.random.fold_in(jax.random.key(_SCORE_SEED), index)
    captions = {"text": batch["text"], "length": batch["length"]}
    sides = [encode(objective, params, batch["image"][:, side]) for side in range(batch["image"].shape[1])]
    found = {}
    for name in scorers:
        scorer = objective.scorers[name]
        scores = [scorer(params, features, captions, key) for features in sides]
        blinds = {}
        if scores[0].kind != "similarity":
            blinds[foil_tables.IMAGES] = blind(scorer, params, bank, captions, key)
            if decoder is not None:
                of_decoder, nothing = decoder.objective.scorers[name], decoder.features(len(batch["image"]))
                blinds[foil_tables.DECODER] = of_decoder(decoder.params, nothing, captions, key)
        found[name] = Scored(_joined(scores), {prior: _less(scores, without) for prior, without in blinds.items()})
    return found


def _less(scores: Sequence[Score], without: Score) -> Blind:
    debiased = [[debias(score, without, exponent) for score in scores] for exponent in EXPONENTS[1:]]
    return Blind(_joined([without]), tuple(map(_joined, debiased)))


def _joined(scores: Sequence[Score]) -> Score:
    """Scores f32[B, C] of each image as f32[B, S, C]; the standard errors f32[B, S] are those of a difference: of the
    first caption to that which scores highest of the others."""
    return Score(
        jnp.stack([score.value for score in scores], axis=1),
        jnp.stack([_error(score) for score in scores], axis=1),
        scores[0].kind,
    )


def _error(score: Score) -> jax.Array:
    errors = [score.difference(0, other)[1] for other in range(1, score.value.shape[1])]
    highest = score.value[:, 1:].argmax(1)
    return jnp.take_along_axis(jnp.stack(errors, axis=1), highest[:, None], axis=1)[:, 0]
