"""The objective's own loss on a held-out split."""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from mdc_jax.config import ConfigError, sections
from mdc_jax.data.batch import LABEL_PREFIX
from mdc_jax.data.sources import open_source
from mdc_jax.evaluators.base import GlobalBatch, Subject, batches, no_example, objective_of, spec_of
from mdc_jax.objectives.base import Metrics, Objective, Params, divided_by_shares

# Every evaluation with the same batch size draws the same masks: differences between them are not noise.
_SEED = 20


class HeldOutLoss:
    """Yields "loss" and the objective's metrics."""

    def __init__(self, section: sections.HeldOutLoss) -> None:
        self._section = section

    def check(self, config: sections.Config) -> None:
        """See `Evaluator`."""
        spec = spec_of(config, self._section.split)
        known = open_source(spec).families
        for family in _labels(objective_of(config)):
            if family not in known:
                raise ConfigError(f'held-out loss: {spec} has no label family "{family}"; it has {", ".join(known)}')

    def run(self, subject: Subject) -> Iterator[tuple[str, float]]:
        section = self._section
        totals: dict[str, float] = {}
        examples = 0.0
        walk = batches(
            subject,
            subject.spec(section.split),
            count=section.examples,
            batch_size=section.batch_size,
            labels=_labels(subject.objective),
        )
        for index, batch in enumerate(walk):
            count, means = jax.device_get(_loss(subject.objective, subject.params, batch, index))
            examples += float(count)
            for name, mean in means.items():
                totals[name] = totals.get(name, 0.0) + float(count) * float(mean)
        if not examples:
            raise no_example(subject.spec(section.split))
        yield from divided_by_shares({name: total / examples for name, total in totals.items()}).items()


def _labels(objective: Objective) -> tuple[str, ...]:
    """The label families that the loss is of."""
    return tuple(key.removeprefix(LABEL_PREFIX) for key in objective.batch_keys if key.startswith(LABEL_PREFIX))


@functools.partial(jax.jit, static_argnums=0)
def _loss(objective: Objective, params: Params, batch: GlobalBatch, index: jax.Array) -> tuple[jax.Array, Metrics]:
    """Number of examples in the loss of a batch, and the means over them."""
    key = jax.random.fold_in(jax.random.key(_SEED), index)
    corrupted = objective.corrupt(batch, key)
    loss, metrics = objective.loss(params, corrupted)
    return jnp.sum(corrupted["weight"] > 0, dtype=jnp.float32), {**metrics, "loss": loss}
