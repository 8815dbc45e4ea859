"""Names the class of an image without training: which of the classes' texts scores highest beside it.

The score of a class is the mean over its templates. A tie is wrong. (CLIP averages the templates' embeddings and scales
the mean to norm 1 again, arXiv 2103.00020; a mean of similarities is the same but for that scale.)

Of a presence family the images count that show exactly one of its names: which one they show is then a class.

Shapes: N images, K classes, P templates.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from mdc_jax import files
from mdc_jax.config import ConfigError, sections
from mdc_jax.config.parse import did_you_mean
from mdc_jax.data.batch import LABEL_PREFIX
from mdc_jax.data.sources import open_source
from mdc_jax.data.sources.base import Family, Source
from mdc_jax.evaluators import class_names, image_bank, metrics, pair_scores
from mdc_jax.evaluators.base import Subject, chosen_scorers, objective_of, spec_of
from mdc_jax.evaluators.pair_scores import FIRST, Column, Pairs
from mdc_jax.evaluators.probe_sets import MEAN_PER_CLASS, TOP_1
from mdc_jax.report import tables
from mdc_jax.scoring.blind import images_text

CHANCE = "chance"


class Chosen(NamedTuple):
    """The class that scores highest, i64[N], and whether it is right, alone, bool[N]."""

    class_N: np.ndarray
    right_N: np.ndarray


class ZeroShot:
    """Yields "<scorer>/accuracy", "<scorer>/mean_per_class" of scores as they are, and "chance".

    Writes `zero_shot.csv` and `zero_shot.md`, every number; `per_class.csv`; and `predictions.jsonl`, a line for each
    image.
    """

    def __init__(self, section: sections.ZeroShot) -> None:
        self._section = section

    def check(self, config: sections.Config) -> None:
        """See `Evaluator`."""
        _, family = self._family(open_source(spec_of(config, self._section.split)))
        class_names.texts(self._section.classes, family)
        open_source(spec_of(config, "train"))
        chosen_scorers(self._section, objective_of(config))

    def run(self, subject: Subject) -> Iterator[tuple[str, float]]:
        section, spec = self._section, subject.spec(self._section.split)
        scorers = chosen_scorers(self._section, subject.objective)
        label, family = self._family(open_source(spec))
        texts = class_names.texts(section.classes, family)
        ids = _tokens(subject, (text for some in texts for text in some))
        bank = image_bank.training_images(subject, section.blind_images)
        found: dict[str, dict[Column, Chosen]] = {}
        kinds = {}
        for scorer in scorers:
            pairs = pair_scores.pairs(
                subject,
                spec,
                ids,
                scorer,
                bank,
                count=section.examples,
                batch_size=section.batch_size,
                texts_at_once=section.texts_at_once,
                labels=(label,),
            )
            kinds[scorer] = pairs.kind
            truth_N, id_N, found[scorer] = _choose(pairs, label, len(texts[0]))
        if not len(truth_N):
            raise ConfigError(f'zero_shot: no image of {spec} has a label of the family "{label}"')
        lines = list(_lines(found, kinds, truth_N, len(family.names)))
        if jax.process_index() == 0:
            _write(subject, lines, texts, section.blind_images)
            _write_classes(subject, found, truth_N, family)
            _write_predictions(subject, found, truth_N, id_N, family)
        for line in lines:
            if (line["exponent"], line["per"]) == FIRST:
                yield f"{line['scorer']}/{line['metric']}", line["value"]
        yield CHANCE, 1 / len(family.names)

    def _family(self, source: Source) -> tuple[str, Family]:
        wanted = self._section.family
        if wanted:
            if wanted not in source.families:
                known = did_you_mean(wanted, source.families)
                raise ConfigError(f'zero_shot: {source.spec} has no label family "{wanted}"{known}')
            return wanted, source.families[wanted]
        families = {name: family for name, family in source.families.items() if family.kind == "class"}
        if len(families) != 1:
            raise ConfigError(
                f"zero_shot: {source.spec} has the families of classes {', '.join(families) or '(none)'}; "
                "name one as family"
            )
        ((name, family),) = families.items()
        return name, family


def classes_of(label: np.ndarray) -> np.ndarray:
    """Classes i64[N] of labels i32[N], or of presence u8[N, K] where exactly one name is present; else -1."""
    return label if label.ndim == 1 else np.where(label.sum(1) == 1, label.argmax(1), -1)


def _tokens(subject: Subject, texts: Iterable[str]) -> list[tuple[int, ...]]:
    """The ids of texts; raises ConfigError for one that the model would not read to its end."""
    try:
        return [tuple(subject.tokenizer.encode_whole(text, subject.config.data.max_tokens)) for text in texts]
    except ValueError as error:
        raise ConfigError(f"zero_shot: {error}") from error


def _choose(pairs: Pairs, label: str, templates: int) -> tuple[np.ndarray, np.ndarray, dict[Column, Chosen]]:
    """Classes and ids of the images that have one by a label family, and what is chosen for them by each column."""
    class_N = classes_of(pairs.carried[LABEL_PREFIX + label])
    known_N = class_N >= 0
    truth_N = class_N[known_N]
    found = {}
    for column, scores_NxT in pairs.columns():
        scores_NxK = scores_NxT[known_N].reshape(len(truth_N), -1, templates).mean(-1)
        true_Nx1 = np.take_along_axis(scores_NxK, truth_N[:, None], axis=1)
        right_N = (scores_NxK >= true_Nx1).sum(1) == 1
        found[column] = Chosen(scores_NxK.argmax(1), right_N)
    return truth_N, pairs.carried["id"][known_N], found


def _lines(
    found: Mapping[str, Mapping[Column, Chosen]], kinds: Mapping[str, str], truth_N: np.ndarray, classes: int
) -> Iterator[dict[str, Any]]:
    """One line of the CSV for each number."""
    weights_NxR = metrics.once_and_resampled(len(truth_N))
    for scorer, columns in found.items():
        for column, chosen in columns.items():
            for metric, groups_N in ((TOP_1, np.zeros_like(truth_N)), (MEAN_PER_CLASS, truth_N)):
                values_R = metrics.mean_of_groups(chosen.right_N, groups_N, weights_NxR)
                low, high = metrics.interval(values_R[1:])
                yield {
                    "scorer": scorer,
                    "estimates": kinds[scorer],
                    **column._asdict(),
                    "metric": metric,
                    "value": float(values_R[0]),
                    "low": low,
                    "high": high,
                    "examples": len(truth_N),
                    "classes": classes,
                }


def _write(subject: Subject, lines: list[dict[str, Any]], texts: list[list[str]], blind_images: int) -> None:
    tables.write_csv(
        subject.out / "zero_shot.csv", [*lines[0], "step"], [[*line.values(), subject.step] for line in lines]
    )
    cells = {
        (f"{line['scorer']} ({line['estimates']}), {line['metric']}", f"a = {line['exponent']:g}, per {line['per']}"): (
            tables.interval(line["value"], line["low"], line["high"])
        )
        for line in lines
    }
    first = lines[0]
    (subject.out / "zero_shot.md").write_text(
        f"# Zero-shot classification at step {subject.step}\n\n{tables.grid(cells)}\n"
        f"{first['examples']} images of {first['classes']} classes; chance {1 / first['classes']:.4f}; "
        f'{len(texts[0])} text(s) of each class, as "{texts[0][0]}". A tie is wrong. a: log p(text | image) - a '
        f"log p(text), the mean over {images_text(blind_images)}. In brackets: 95% intervals over the images.\n"
    )


def _write_classes(
    subject: Subject, found: Mapping[str, Mapping[Column, Chosen]], truth_N: np.ndarray, family: Family
) -> None:
    rows = [
        [scorer, *column, name, int(own_N.sum()), float(chosen.right_N[own_N].mean()), int((chosen.class_N == k).sum())]
        for scorer, columns in found.items()
        for column, chosen in columns.items()
        for k, name in enumerate(family.names)
        if (own_N := truth_N == k).any()
    ]
    header = ["scorer", *Column._fields, "class", "examples", "accuracy", "chosen"]
    tables.write_csv(subject.out / "per_class.csv", header, rows)


def _write_predictions(
    subject: Subject,
    found: Mapping[str, Mapping[Column, Chosen]],
    truth_N: np.ndarray,
    id_N: np.ndarray,
    family: Family,
) -> None:
    lines = []
    for row, (identity, truth) in enumerate(zip(id_N.tolist(), truth_N.tolist(), strict=True)):
        predicted = [
            {
                "scorer": scorer,
                **column._asdict(),
                "class": family.names[chosen.class_N[row]],
                "right": bool(chosen.right_N[row]),
            }
            for scorer, columns in found.items()
            for column, chosen in columns.items()
        ]
        lines.append({"id": identity, "truth": family.names[truth], "predicted": predicted})
    files.write_json_lines(subject.out / "predictions.jsonl", lines)
