"""What the compositionality evaluator writes.

`foils.csv` has every number, `foils.md` the tables, `foils.jsonl` a line for each foil with all its scores, for paired
tests, and `foils.png` a few foils with the model's choice.

Shapes: N foils of a kind, S images of a foil, C captions, as in `choices.py`.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mdc_jax import files
from mdc_jax.config import sections
from mdc_jax.data.sources.base import Foil, Source
from mdc_jax.evaluators import choices
from mdc_jax.evaluators.base import Subject
from mdc_jax.evaluators.pair_scores import CAPTION, TOKEN
from mdc_jax.objectives.base import Score
from mdc_jax.report import plots, tables
from mdc_jax.scoring.blind import EXPONENTS, images_text

MODEL, BLIND = "model", "blind"
IMAGES, DECODER = "images", "decoder"  # what says log p(caption): a mean over training images; see `blind_decoder.py`
_ACCURACY, _TIES = "accuracy, a = 0", "ties"
_TITLE = "grey: the image's own caption    black: the caption that scores higher    bold red: where that is wrong"


class Blind(NamedTuple):
    """log p(caption), f32[N, 1, C], and for each of EXPONENTS but 0 the scores less that, f32[N, S, C]."""

    score: Score
    debiased: tuple[Score, ...]


class Scored(NamedTuple):
    """What a scorer says, f32[N, S, C], and what is said without an image, by IMAGES and DECODER.

    Standard errors, f32[N, S], are those of the difference to the true caption. Nothing is blind beside similarities.
    """

    score: Score
    blind: Mapping[str, Blind]


class Result(NamedTuple):
    """The foils of a kind, of which the first alone have (prepared) images, their numbers in the source, the lengths
    i32[N, C] of their captions in tokens, EOS included, and what scorers say, in the order in which they were asked
    for."""

    foils: tuple[Foil, ...]
    numbers: tuple[int, ...]
    length_NxC: np.ndarray
    scored: Mapping[str, Scored]

    @property
    def groups(self) -> tuple[str, ...]:
        """The group of each foil; () where they have none."""
        return tuple(foil.group for foil in self.foils) if self.foils[0].group else ()


def write(subject: Subject, source: Source, results: Mapping[str, Result], section: sections.Compositionality) -> None:
    """Writes the files; `results` are by kind, of foils of the source."""
    lines = list(_lines(results))
    rows = [[*line.values(), subject.step] for line in lines]
    tables.write_csv(subject.out / "foils.csv", [*lines[0], "step"], rows)
    text = _markdown(lines, source, subject.step, section.blind_images)
    least = getattr(subject.config.objective, "interval", (0.0,))[0]
    if least > 0:
        text += (
            f"\nMasks of training had ratios from {least:g} on: what scorers say of captions of which less is masked "
            "(elbo, pseudo_log_likelihood, greedy_reveal) is of what the model was never shown.\n"
        )
    (subject.out / "foils.md").write_text(text)
    files.write_json_lines(subject.out / "foils.jsonl", _examples(results))
    _draw(subject, results, section.picture)


def _lines(results: Mapping[str, Result]) -> Iterator[dict[str, Any]]:
    """One line of the CSV for each number."""
    for kind, result in results.items():
        images_of_foil = len(result.foils[0].images)
        for name, (score, blinds) in result.scored.items():
            divisors: dict[str, Any] = {CAPTION: 1}
            if blinds:
                divisors[TOKEN] = result.length_NxC[:, None]
            for row, prior, exponent, scores in _rows(score, blinds):
                shape = (len(scores.value), images_of_foil, scores.value.shape[-1])
                values = np.broadcast_to(scores.value, shape).astype(np.float64)
                for per, divisor in divisors.items():
                    # Of two images a score of the caption alone chooses one right: .5 by algebra, not by chance.
                    certain = scores.value.shape[1] == 1 and images_of_foil == 2
                    for metric, choice, (value, low, high) in _numbers(
                        values / divisor, result.groups, certain=certain
                    ):
                        yield {
                            "kind": kind,
                            "images": images_of_foil,
                            "scorer": name,
                            "estimates": scores.kind,
                            "row": row,
                            "prior": prior,
                            "exponent": exponent,
                            "per": per,
                            "metric": metric,
                            "value": value,
                            "low": low,
                            "high": high,
                            "ties": choice.ties,
                            "foils": len(result.foils),
                        }


def _numbers(
    scores_NxSxC: np.ndarray, groups: Sequence[str], *, certain: bool
) -> Iterator[tuple[str, choices.Choice, tuple[float, float, float]]]:
    """What is counted, and its value with its interval, which what is `certain` has none of."""
    found = choices.choices(scores_NxSxC)
    if groups:
        yield choices.MACRO, found[choices.ACCURACY], found[choices.ACCURACY].macro(groups)
    for metric, choice in found.items():
        value = float(choice.right_N.mean())
        yield metric, choice, (value,) * 3 if certain and not choice.ties else choice.interval()


def _rows(score: Score, blinds: Mapping[str, Blind]) -> Iterator[tuple[str, str, float, Score]]:
    """What is scored, by which log p(caption), its exponent, and the scores."""
    yield MODEL, "", EXPONENTS[0], score
    for prior, blind in blinds.items():
        yield BLIND, prior, 0.0, blind.score
        for exponent, debiased in zip(EXPONENTS[1:], blind.debiased, strict=True):
            yield MODEL, prior, exponent, debiased


def _markdown(lines: list[dict[str, Any]], source: Source, step: int, blind_images: int) -> str:
    text = f"# Compositionality at step {step}\n\nFoils of {source.spec}, sha256 {source.fingerprint[:16]}.\n"
    for scorer in dict.fromkeys(line["scorer"] for line in lines):
        own = [line for line in lines if line["scorer"] == scorer]
        estimates = next(line["estimates"] for line in own if line["row"] == MODEL and line["exponent"] == 0)
        text += f"\n## {scorer} ({estimates})\n\n{_table(own)}"
        if estimates == "similarity":
            text += "\nA similarity is no log-probability: no blind row, no debiased column, no value per token.\n"
    return text + (
        "\naccuracy: how often the true caption of an image scores higher than all others; chance is 1 / C of C "
        "captions, and with two images any score of the caption alone has .5. macro: the mean over relations, or pairs "
        "of attributes, of their accuracies. With two images also Winoground's scores: text, both images choose "
        "right (chance .25); image, both captions choose right (.25); group, both (.17). A tie is wrong. blind: "
        f"accuracy of log p(caption), by the mean over {images_text(blind_images)}, and by a decoder that "
        "was trained without images where one is given. a: log p(caption | image) - a log p(caption); text, image and "
        "group have a = 0. In brackets: 95% intervals over the foils. Scores of "
        "captions of different length (add) are comparable only where they contain the length.\n"
    )


def _table(lines: list[dict[str, Any]]) -> str:
    cells = {}
    for line in lines:
        row, column = f"{line['kind']}, per {line['per']}", _column(line)
        if column:
            cells[row, column] = tables.interval(line["value"], line["low"], line["high"])
        if column == _ACCURACY:
            cells[row, _TIES] = str(line["ties"])
    rows, columns = dict.fromkeys(row for row, _ in cells), dict.fromkeys(column for _, column in cells)
    last = (choices.MACRO, choices.TEXT, choices.IMAGE, choices.GROUP, _TIES)
    order = [*(column for column in columns if column not in last), *(column for column in last if column in columns)]
    return tables.grid({(row, column): cells.get((row, column), "") for row in rows for column in order})


def _column(line: dict[str, Any]) -> str:
    """Where a number stands in the table; "" for those that are in the CSV alone."""
    if line["metric"] != choices.ACCURACY:
        return line["metric"] if line["row"] == MODEL and not line["prior"] else ""
    if line["row"] == BLIND:
        return f"blind, {line['prior']}"
    return f"a = {line['exponent']:g}, {line['prior']}" if line["prior"] else _ACCURACY


def _examples(results: Mapping[str, Result]) -> Iterator[dict[str, Any]]:
    for kind, result in results.items():
        right = {
            name: {metric: choice.right_N for metric, choice in choices.choices(scored.score.value).items()}
            for name, scored in result.scored.items()
        }
        for index, foil in enumerate(result.foils):
            scored = {}
            for name, (score, blinds) in result.scored.items():
                scored[name] = {
                    "estimates": score.kind,
                    "scores": score.value[index].tolist(),  # [image][caption]
                    "standard_error_of_difference": score.standard_error[index].tolist(),
                    "blind": {prior: blind.score.value[index, 0].tolist() for prior, blind in blinds.items()},
                    "right": {metric: float(right_N[index]) for metric, right_N in right[name].items()},
                }
            tokens = result.length_NxC[index].tolist()
            line = {
                "kind": kind,
                "index": result.numbers[index],
                "captions": foil.captions,
                "tokens": tokens,
                "scorers": scored,
            }
            yield {**line, "group": foil.group} if foil.group else line


def _draw(subject: Subject, results: Mapping[str, Result], of_each_kind: int) -> None:
    """The first foils of each kind with the choice of the first scorer."""
    examples = []
    for result in results.values():
        scores = next(iter(result.scored.values())).score.value
        for index, foil in enumerate(result.foils[:of_each_kind]):
            for own, image in enumerate(foil.images):
                others = np.delete(np.arange(scores.shape[-1]), own)
                best = others[scores[index, own, others].argmax()]
                chosen = own if scores[index, own, own] > scores[index, own, best] else best
                examples.append(
                    plots.Captioned(
                        image=image,
                        truth=foil.captions[own],
                        generated=_marked(foil.captions[chosen].split(), foil.captions[own].split()),
                    )
                )
    if examples:
        plots.captions(subject.out / "foils.png", examples, _TITLE)


def _marked(words: list[str], truth: list[str]) -> list[tuple[str, bool]]:
    """The words, and whether they are not those of the truth."""
    kept: set[int] = set()
    for block in difflib.SequenceMatcher(None, truth, words, autojunk=False).get_matching_blocks():
        kept.update(range(block.b, block.b + block.size))
    return [(word, place not in kept) for place, word in enumerate(words)]
