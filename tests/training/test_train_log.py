"""Metrics arrive one step late, a loss that is not finite stops the run, a rising held-out loss is told."""

import json
import math
from typing import Any

import jax.numpy as jnp
import pytest

from mdc_jax.training.train_log import NonFiniteError, TrainLog


class Recorder:
    """Takes the place of writer and terminal."""

    total_steps = 10

    def __init__(self) -> None:
        self.lines: list[tuple[int, dict[str, float]]] = []
        self.said: list[str] = []

    def write(self, step: int, metrics: dict[str, float]) -> None:
        self.lines.append((step, metrics))

    def report(self, *_: Any) -> None:
        pass

    def say(self, text: str) -> None:
        self.said.append(text)


def make(recorder: Recorder, meta: dict | None = None) -> TrainLog:
    return TrainLog(recorder, recorder, every=2, batch_size=4, meta=meta or {"window": [], "seconds": 1.0})


def metrics(loss: float) -> dict:
    others = {"grad_norm": 1.0, "param_norm": 1.0, "learning_rate": 0.1, "stop": 0}
    return {name: jnp.float32(value) for name, value in {"loss": loss, **others}.items()}


def test_a_report_is_the_mean_since_the_last_one_also_across_a_resume() -> None:
    recorder = Recorder()
    log = make(recorder)
    log.pend(1, metrics(1.0), 0.0)
    log.read_pending()
    resumed = make(recorder, log.meta())
    resumed.pend(2, metrics(3.0), 0.0)
    assert recorder.lines == []
    resumed.read_pending()
    ((step, line),) = recorder.lines
    assert step == 2 and line["train/loss"] == 2.0 and "train/stop" not in line
    assert line["train/seconds_left"] == pytest.approx(8 * 4 / line["train/images_per_second"])


@pytest.mark.parametrize("name", ["loss", "grad_norm", "param_norm"])
def test_what_is_not_finite_stops_the_run(name: str) -> None:
    log = make(Recorder())
    log.pend(7, {**metrics(1.0), name: jnp.float32(math.inf)}, 0.0)
    with pytest.raises(NonFiniteError, match=r"step 7.*last checkpoint"):
        log.read_pending()


def test_warns_when_held_out_loss_rises_while_the_training_loss_falls_also_across_resumes() -> None:
    recorder = Recorder()
    log = make(recorder)
    for i, (train, held_out) in enumerate([(3.0, 2.0), (2.0, 2.1), (1.0, 2.2)]):
        for j in (1, 2):
            log.pend(2 * i + j, metrics(train), 0.0)
            log.read_pending()
        log.watch_held_out(held_out)
        log = make(recorder, json.loads(json.dumps(log.meta())))
    assert len(recorder.said) == 1 and "memorises" in recorder.said[0]
