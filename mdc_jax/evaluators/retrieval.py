"""Finds the captions of an image among those of all images, and the image of a caption: recall at 1, 5 and 10.

Captions that are equal in the model's tokens are one text, which is right for every image that has it. Each counts as
often as it was written as a query, and once among those that are searched. What is right ranks behind everything wrong
that scores as high. Of an image the best of its captions counts, of a caption the best of its images.

Shapes: N images, T texts, Q queries, G items that are searched, R resamples of the images.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from mdc_jax import files
from mdc_jax.config import ConfigError, sections
from mdc_jax.data.plan import plan_of
from mdc_jax.data.sources import open_source
from mdc_jax.data.sources.base import BadRecord, Source, captions_of
from mdc_jax.data.texts import has_words
from mdc_jax.evaluators import image_bank, metrics, pair_scores
from mdc_jax.evaluators.base import Subject, chosen_scorers, objective_of, spec_of
from mdc_jax.evaluators.pair_scores import FIRST, Column, Pairs
from mdc_jax.report import tables
from mdc_jax.scoring.blind import images_text

PLACES = (1, 5, 10)
TO_TEXT, TO_IMAGE = "image_to_text", "text_to_image"


class Retrieval:
    """Yields "<scorer>/image_to_text/recall_1" ... of scores as they are.

    Writes `retrieval.csv` and `retrieval.md`, every number, and `predictions.jsonl`, the ranks of each query at the
    scores as they are: {"id": 7, "metric": "elbo/image_to_text", "right": true, "rank": 1}. `right` is a rank of 1; of
    a caption, `id` is that of its image.
    """

    def __init__(self, section: sections.Retrieval) -> None:
        self._section = section

    def check(self, config: sections.Config) -> None:
        """See `Evaluator`."""
        open_source(spec_of(config, self._section.split))
        open_source(spec_of(config, "train"))
        chosen_scorers(self._section, objective_of(config))

    def run(self, subject: Subject) -> Iterator[tuple[str, float]]:
        section, spec = self._section, subject.spec(self._section.split)
        scorers = chosen_scorers(self._section, subject.objective)
        captions = {
            record: pair_scores.tokens(subject, texts)
            for record, texts in _captions(open_source(spec), section.examples, subject.config.seed).items()
        }
        texts = list(dict.fromkeys(text for some in captions.values() for text in some))
        if not texts:
            raise ConfigError(f"retrieval: the images of {spec} have no captions")
        bank = image_bank.training_images(subject, section.blind_images)
        lines: list[dict[str, Any]] = []
        predictions: list[dict[str, Any]] = []
        for scorer in scorers:
            pairs = pair_scores.pairs(
                subject,
                spec,
                texts,
                scorer,
                bank,
                count=section.examples,
                batch_size=section.batch_size,
                texts_at_once=section.texts_at_once,
            )
            place = {text: index for index, text in enumerate(texts)}
            written_NxT = np.zeros(pairs.value_NxT.shape, np.int32)
            for row, record in enumerate(pairs.carried["id"].tolist()):
                np.add.at(written_NxT[row], [place[text] for text in captions[record]], 1)
            lines += [{"scorer": scorer, "estimates": pairs.kind, **line} for line in _lines(pairs, written_NxT)]
            predictions += _predictions(scorer, pairs, written_NxT)
        if jax.process_index() == 0:
            _write(subject, lines, section.blind_images)
            files.write_json_lines(subject.out / "predictions.jsonl", predictions)
        for line in lines:
            if (line["exponent"], line["per"]) == FIRST:
                yield f"{line['scorer']}/{line['direction']}/recall_{line['k']}", line["value"]


def ranks(scores_QxG: np.ndarray, right_QxG: np.ndarray) -> np.ndarray:
    """The rank, from 1, of the best right item of each query, i64[Q]: behind wrong ones that score as high."""
    best_Q = np.where(right_QxG, scores_QxG, -np.inf).max(1)
    return 1 + ((scores_QxG >= best_Q[:, None]) & ~right_QxG).sum(1)


def chance(right_Q: np.ndarray, items: int, k: int) -> np.ndarray:
    """How often one of `right` items i64[Q] is among k of `items` that are drawn at random, f64[Q]."""
    missed_Q = np.ones(len(right_Q))
    for drawn in range(min(k, items)):
        missed_Q *= np.maximum(items - right_Q - drawn, 0) / (items - drawn)
    return 1 - missed_Q


def _captions(source: Source, count: int, seed: int) -> dict[int, list[str]]:
    """The captions of the records that an evaluation of `count` examples reads, but for damaged ones."""
    count = min(count, len(source))
    plan = plan_of(source, seed, shuffle=False)
    found = {}
    for position in range(count):
        record = plan.locate(position)[1]
        try:
            texts = captions_of(source, record)
        except BadRecord:
            continue
        found[record] = list(filter(has_words, texts))
    return found


def _lines(pairs: Pairs, written_NxT: np.ndarray) -> Iterator[dict[str, Any]]:
    """One line of the CSV for each number. `written` says how often an image has a text as its caption."""
    kept_T = written_NxT.any(0)  # others are captions of images that could not be read
    written_NxT = written_NxT[:, kept_T]
    right_NxT = written_NxT > 0
    images, texts = right_NxT.shape
    once_N, captions_N = np.ones(images), written_NxT.sum(1)
    for column, scores_NxT in pairs.columns():
        rank_N = ranks(scores_NxT[:, kept_T], right_NxT)
        lucky = {k: chance(right_NxT.sum(1), texts, k) for k in PLACES}
        yield from _recalls(TO_TEXT, column, {k: rank_N <= k for k in PLACES}, lucky, once_N, texts)
        if column != FIRST:
            continue  # what is taken from all scores of a text, or divides them, leaves the order of its images
        rank_T = ranks(scores_NxT[:, kept_T].T, right_NxT.T)
        found = {k: written_NxT @ (rank_T <= k) for k in PLACES}
        lucky = {k: written_NxT @ chance(right_NxT.sum(0), images, k) for k in PLACES}
        yield from _recalls(TO_IMAGE, column, found, lucky, captions_N, texts)


def _predictions(scorer: str, pairs: Pairs, written_NxT: np.ndarray) -> Iterator[dict[str, Any]]:
    """A line for each query: every image, and every caption as often as it was written."""
    kept_T = written_NxT.any(0)
    scores_NxT, written_NxT = pairs.value_NxT[:, kept_T], written_NxT[:, kept_T]
    right_NxT, ids = written_NxT > 0, pairs.carried["id"].tolist()

    def line(direction: str, row: int, rank: int) -> dict[str, Any]:
        return {"id": ids[row], "metric": f"{scorer}/{direction}", "right": rank == 1, "rank": rank}

    for row, rank in enumerate(ranks(scores_NxT, right_NxT).tolist()):
        yield line(TO_TEXT, row, rank)
    rank_T = ranks(scores_NxT.T, right_NxT.T).tolist()
    for row, text in np.argwhere(right_NxT).tolist():
        for _ in range(written_NxT[row, text]):
            yield line(TO_IMAGE, row, rank_T[text])


def _recalls(
    direction: str,
    column: Column,
    found: Mapping[int, np.ndarray],
    lucky: Mapping[int, np.ndarray],
    queries_N: np.ndarray,
    texts: int,
) -> Iterator[dict[str, Any]]:
    """By k, from the queries of each image: how many found what they should, how many would by chance, and all."""
    weights_NxR = metrics.resamples(len(queries_N))  # of images, whose captions are not independent
    for k in PLACES:
        low, high = metrics.interval((found[k] @ weights_NxR) / (queries_N @ weights_NxR))
        yield {
            "direction": direction,
            **column._asdict(),
            "k": k,
            "value": float(found[k].sum() / queries_N.sum()),
            "low": low,
            "high": high,
            "chance": float(lucky[k].sum() / queries_N.sum()),
            "images": len(queries_N),
            "texts": texts,
        }


def _write(subject: Subject, lines: list[dict[str, Any]], blind_images: int) -> None:
    rows = [[*line.values(), subject.step] for line in lines]
    tables.write_csv(subject.out / "retrieval.csv", [*lines[0], "step"], rows)
    cells = {}
    for line in lines:
        row = f"{line['scorer']} ({line['estimates']}), {line['direction'].replace('_', ' ')}, R@{line['k']}"
        cells[row, "chance"] = f"{line['chance']:.3f}"
        cells[row, f"a = {line['exponent']:g}, per {line['per']}"] = tables.interval(
            line["value"], line["low"], line["high"]
        )
    first = lines[0]
    (subject.out / "retrieval.md").write_text(
        f"# Retrieval at step {subject.step}\n\n{tables.grid(cells)}\n"
        f"{first['images']} images, {first['texts']} different captions. An equal caption of another image is right "
        "too; of several right ones the best counts; a tie is wrong. a: log p(caption | image) - a log p(caption), "
        f"the mean over {images_text(blind_images)}, which leaves the order of the images of a caption as it is. In "
        "brackets: 95% intervals over the images.\n"
    )
