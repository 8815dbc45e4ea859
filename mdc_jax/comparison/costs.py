"""What a run has cost at each step: seconds and FLOPs of training, from the log that it left behind."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from mdc_jax.comparison import sequence
from mdc_jax.config import ConfigError
from mdc_jax.data.tokenizer import Tokenizer
from mdc_jax.objectives.base import Objective
from mdc_jax.training import accounting, build, checkpoint
from mdc_jax.training.accounting import Cost

_PREFIX = "train/"


@dataclasses.dataclass(frozen=True)
class Costs:
    """Of a run."""

    batch_size: int
    flops_per_step: float  # of the matrix products, see `accounting.Cost`; the mean over the run
    step_seconds: float  # median of what was logged
    steps_N: np.ndarray  # at which seconds were logged
    seconds_N: np.ndarray  # of training until then: with compilation, without evaluation and saving

    def seconds(self, step: int) -> float:
        """Of training until a step, as if the speed had been even since the last one logged; nan where none was."""
        if not len(self.steps_N):
            return float("nan")
        beyond = max(step - self.steps_N[-1], 0) * self.step_seconds
        return float(np.interp(step, [0, *self.steps_N], [0.0, *self.seconds_N])) + beyond


def of(workdir: epath.Path, lines: Sequence[Mapping[str, Any]]) -> Costs:
    """The costs of a run; `lines` are those of its `metrics.jsonl`."""
    config, objective = sequence.stored_config(workdir), _objective(workdir)
    logged = [line for line in lines if f"{_PREFIX}seconds" in line]
    counts = {
        name: [line[_PREFIX + name] for line in logged if _PREFIX + name in line]
        for name in ("predicted_tokens", "text_tokens")
    }
    metrics = {name: statistics.fmean(values) for name, values in counts.items() if values}
    cost = Cost(objective, config.data.captions_per_image, jax.devices()[0].device_kind, 1)
    # The first of them contains what a start costs.
    speeds = [line[f"{_PREFIX}step_seconds"] for line in logged if f"{_PREFIX}step_seconds" in line]
    return Costs(
        batch_size=config.data.batch_size,
        flops_per_step=cost.flops(metrics) * config.data.batch_size,
        step_seconds=statistics.median(speeds[1:] or speeds) if speeds else 0.0,
        steps_N=np.array([line["step"] for line in logged]),
        seconds_N=np.array([line[f"{_PREFIX}seconds"] for line in logged]),
    )


def parameters(workdir: epath.Path) -> int | None:
    """How many a run has; None where it has not started."""
    if not (workdir / checkpoint.TOKENIZER).exists():
        return None
    return accounting.parameters(jax.eval_shape(_objective(workdir).init, jax.random.key(0)))


def _objective(workdir: epath.Path) -> Objective:
    model = workdir / checkpoint.TOKENIZER
    if not model.exists():
        raise ConfigError(f"{model} is gone, which this run had written: copy it again")
    return build.objective(sequence.stored_config(workdir), Tokenizer.load(model).vocab_size)
