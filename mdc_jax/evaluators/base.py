"""What an evaluator is given, what it returns, and the walk over a split that they share.

Shapes: B examples of a global batch, N examples of a split.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from mdc_jax import progress
from mdc_jax.config import ConfigError, sections
from mdc_jax.config.parse import did_you_mean
from mdc_jax.data.batch import LABEL_PREFIX
from mdc_jax.data.pipeline import eval_batches
from mdc_jax.data.sources import open_source
from mdc_jax.data.tokenizer import Tokenizer
from mdc_jax.objectives.base import Objective, Params
from mdc_jax.training import build, checkpoint, sharding

GlobalBatch = Mapping[str, jax.Array]
Scoring = sections.Compositionality | sections.Perplexity | sections.Retrieval | sections.ZeroShot


class Interrupted(Exception):
    """The evaluation was asked to stop between two batches; nothing of it counts."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is evaluated: a model as it stands at a step."""

    objective: Objective
    params: Params  # on `mesh`; the averaged ones where the run has them
    config: sections.Config
    tokenizer: Tokenizer | None  # None: an image encoder alone
    mesh: jax.sharding.Mesh
    step: int
    out: epath.Path  # an existing folder for the files of this evaluation
    should_stop: Callable[[], bool] = lambda: False  # the same answer on every host

    @classmethod
    def of(cls, loaded: checkpoint.Loaded, out: epath.Path) -> "Subject":
        """A checkpoint, whose evaluation writes to `out`."""
        return cls(
            objective=loaded.objective,
            params=loaded.params,
            config=loaded.config,
            tokenizer=loaded.tokenizer,
            mesh=loaded.mesh,
            step=loaded.step,
            out=out,
        )

    def spec(self, split: str) -> str:
        """See `spec_of`."""
        return spec_of(self.config, split)


def spec_of(config: sections.Config, split: str) -> str:
    """The source of the split "train", "validation" or "test", or the source spec that `split` is itself.

    Raises ConfigError for another split, or one that is not set.
    """
    if ":" in split:
        return split
    if split not in ("train", "validation", "test"):
        raise ConfigError(f'split "{split}": choose validation or test, or give a source spec, as in "scenes:test"')
    spec = getattr(config.data, split)
    if not spec:
        raise ConfigError(f'data.{split} is empty, but an evaluator reads it: name a source, as in "scenes:{split}"')
    return spec


def objective_of(config: sections.Config) -> Objective:
    """The objective of a config as it is before there is a tokenizer: for what it offers, not to be run.

    Raises ConfigError for sizes that do not fit each other.
    """
    return build.objective(config, config.tokenizer.vocab_size)


def chosen_scorers(section: Scoring, objective: Objective) -> tuple[str, ...]:
    """The scorers that a section names, every one that the objective has for ("all",), and the first for none.

    Raises ConfigError for a scorer that the objective does not have.
    """
    names, known = tuple(section.scorers), tuple(objective.scorers)
    if names == ("all",):
        return known
    if "all" in names:
        raise ConfigError(f'{section.type}: scorers={names}: "all" stands alone')
    for name in names:
        if name not in known:
            raise ConfigError(f'{section.type}: the objective has no scorer "{name}"{did_you_mean(name, known)}')
    return names or known[:1]


class Evaluator(Protocol):
    def check(self, config: sections.Config) -> None:
        """Raises ConfigError, before anything is trained, for data that is not there."""
        ...

    def run(self, subject: Subject) -> Iterator[tuple[str, float]]:
        """Yields (metric, value) and may write files to `subject.out`. Raises Interrupted."""
        ...


def batches(
    subject: Subject, spec: str, *, count: int, batch_size: int, labels: tuple[str, ...] = ()
) -> Iterator[GlobalBatch]:
    """Walks over the first `count` examples of a source as global batches on the mesh.

    `batch_size` is rounded up to what the mesh can split. Raises Interrupted between batches.
    """
    source = open_source(spec)
    count = min(count, len(source))
    ways = sharding.batch_ways(subject.mesh)
    batch_size = -(-batch_size // ways) * ways
    local = eval_batches(
        source,
        subject.tokenizer,
        subject.config,
        count=count,
        batch_size=batch_size,
        labels=labels,
        rows=sharding.local_rows(batch_size, subject.mesh),
    )
    with progress.bar(spec, count) as shown:
        for batch in local:
            if subject.should_stop():
                raise Interrupted
            yield sharding.to_global(batch, subject.mesh, batch_size)
            shown.update(min(batch_size, count - shown.n))


def extract(
    subject: Subject,
    spec: str,
    fn: Callable[[GlobalBatch, int], Mapping[str, jax.Array]],
    *,
    count: int,
    batch_size: int,
    labels: tuple[str, ...] = (),
) -> dict[str, np.ndarray]:
    """Runs `fn` over the first `count` examples of a source and returns its outputs on every host.

    Args:
      subject: what is evaluated.
      spec: the source.
      fn: from a global batch and its index to arrays of B rows; compiled by the caller.
      count: number of examples; padded and unreadable ones are dropped from the result.
      batch_size: over all hosts.
      labels: label families to return too, as "label/<family>".

    Returns:
      `fn`'s outputs, "id" and the labels, each with N rows in the order of the source.
    """
    kept = list(host_rows(subject, spec, fn, count=count, batch_size=batch_size, labels=labels))
    return {name: np.concatenate([rows[name] for rows in kept]) for name in kept[0]}


def host_rows(
    subject: Subject,
    spec: str,
    fn: Callable[[GlobalBatch, int], Mapping[str, jax.Array]],
    *,
    count: int,
    batch_size: int,
    labels: tuple[str, ...] = (),
) -> Iterator[dict[str, np.ndarray]]:
    """Yields what `extract` returns, a batch at a time; raises ConfigError where no example can be used."""

    def valid(rows: Mapping[str, jax.Array]) -> dict[str, np.ndarray]:
        host = to_host(rows)
        mask = host.pop("_mask")
        nonlocal usable
        usable += int(mask.sum())
        return {name: value[mask] for name, value in host.items()}

    usable = 0
    carried = ("id", "_mask", *(LABEL_PREFIX + name for name in labels))
    pending = None  # one batch behind, so that the device works while the host reads
    for index, batch in enumerate(batches(subject, spec, count=count, batch_size=batch_size, labels=labels)):
        rows = {**fn(batch, index), **{name: batch[name] for name in carried}}
        if pending is not None:
            yield valid(pending)
        pending = rows
    if pending is not None:
        yield valid(pending)
    if not usable:
        raise no_example(spec)


def no_example(spec: str) -> ConfigError:
    """What is said of a source that is empty, or of which nothing that was read can be used."""
    return ConfigError(f'"{spec}" has no example to evaluate: it is empty, or all that was read is bad, see the log')


def to_host(tree: Any) -> Any:
    """Global arrays as numpy arrays, whole on every host."""
    if jax.process_count() > 1:
        return multihost_utils.process_allgather(tree, tiled=True)
    return jax.device_get(tree)
