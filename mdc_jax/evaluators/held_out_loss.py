"""The objective's own loss on a held-out split."""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from mdc_jax.config import sections
from mdc_jax.data.sources import open_source
from mdc_jax.evaluators.base import GlobalBatch, Subject, batches, spec_of
from mdc_jax.objectives.base import Metrics, Objective, Params

# Every evaluation with the same batch size draws the same masks: differences between them are not noise.
_SEED = 20


class HeldOutLoss:
    """Yields "loss" and the objective's metrics."""

    def __init__(self, section: sections.HeldOutLoss) -> None:
        self._section = section

    def check(self, config: sections.Config) -> None:
        """See `Evaluator`."""
        open_source(spec_of(config, self._section.split))

    def run(self, subject: Subject) -> Iterator[tuple[str, float]]:
        section = self._section
        totals: dict[str, float] = {}
        examples = 0.0
        walk = batches(subject, subject.spec(section.split), count=section.examples, batch_size=section.batch_size)
        for index, batch in enumerate(walk):
            count, means = jax.device_get(_loss(subject.objective, subject.params, batch, index))
            examples += float(count)
            for name, mean in means.items():
                totals[name] = totals.get(name, 0.0) + float(count) * float(mean)
        for name, total in totals.items():
            yield name, total / max(examples, 1.0)


@functools.partial(jax.jit, static_argnums=0)
def _loss(objective: Objective, params: Params, batch: GlobalBatch, index: jax.Array) -> tuple[jax.Array, Metrics]:
    """Number of examples in the loss of a batch, and the means over them."""
    key = jax.random.fold_in(jax.random.key(_SEED), index)
    corrupted = objective.corrupt(batch, key)
    loss, metrics = objective.loss(params, corrupted)
    return jnp.sum(corrupted["weight"] > 0, dtype=jnp.float32), {**metrics, "loss": loss}
