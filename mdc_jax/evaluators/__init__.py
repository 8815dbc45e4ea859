"""Measures a model at a step: one file and one line here per evaluator.

An evaluator is built from its config section, walks over a split through `base.batches` or
`base.extract`, yields (metric, value), and writes its tables and pictures to `subject.out`.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
from etils import epath

from mdc_jax.config import ConfigError, sections
from mdc_jax.evaluators.base import Evaluator, Subject
from mdc_jax.evaluators.captioning import Captioning
from mdc_jax.evaluators.compositionality import Compositionality
from mdc_jax.evaluators.held_out_loss import HeldOutLoss
from mdc_jax.evaluators.lengths import Lengths
from mdc_jax.evaluators.linear_probe import LinearProbe
from mdc_jax.evaluators.perplexity import Perplexity
from mdc_jax.evaluators.position_signal import PositionSignal
from mdc_jax.evaluators.retrieval import Retrieval
from mdc_jax.evaluators.zero_shot import ZeroShot

_OF_SECTION: Mapping[type, type[Evaluator]] = {
    sections.HeldOutLoss: HeldOutLoss,
    sections.LinearProbe: LinearProbe,
    sections.Captioning: Captioning,
    sections.Perplexity: Perplexity,
    sections.Compositionality: Compositionality,
    sections.Lengths: Lengths,
    sections.ZeroShot: ZeroShot,
    sections.Retrieval: Retrieval,
    sections.PositionSignal: PositionSignal,
}


def build(section: Any) -> Evaluator:
    """Builds the evaluator of a section of `config.evaluators`."""
    return _OF_SECTION[type(section)](section)


def check(config: sections.Config) -> None:
    """Raises ConfigError for evaluators that could not run when their time comes."""
    objective = config.objective
    for name, section in config.evaluators.items():
        for able, verb, types in (
            (objective.writes_captions, "writes", sections.OF_WRITERS),
            (objective.scores_captions, "scores", sections.OF_SCORERS),
        ):
            if section.type in types and not able:
                raise ConfigError(
                    f'the objective "{objective.name}" {verb} no captions: leave the evaluator {name} out'
                )
        build(section).check(config)


def run(chosen: Mapping[str, Any], subject: Subject) -> Iterator[tuple[str, float]]:
    """Runs evaluators, name → section, one after the other.

    Yields ("name/metric", value); the files of each are in `subject.out`/name. Raises Interrupted.
    """
    for name, section in chosen.items():
        out = subject.out / name
        out.mkdir(parents=True, exist_ok=True)
        _clear(out)
        for metric, value in build(section).run(dataclasses.replace(subject, out=out)):
            yield f"{name}/{metric}", value


def _clear(out: epath.Path) -> None:
    """Removes what an earlier evaluation wrote for people to see: not all of it need be written again."""
    if jax.process_index() == 0:
        for path in _shown(out):
            path.unlink()


def _shown(out: epath.Path) -> list[epath.Path]:
    return [path for kind in ("md", "png", "svg") for path in sorted(out.glob(f"*.{kind}"))]


def summary(values: Mapping[str, float], out: epath.Path, names: Sequence[str]) -> str:
    """What a person wants to see of the evaluators `names`: the values, the tables, and where the pictures are."""
    lines = [f"{name:<44} {value:.4f}" for name, value in values.items()]
    files = [path for name in names for path in _shown(out / name)]
    texts = [path.read_text().rstrip() for path in files if path.suffix == ".md"]
    pictures = [f"picture: {path}" for path in files if path.suffix != ".md"]
    return "\n\n".join(filter(None, ("\n".join(lines), *texts, "\n".join(pictures))))
