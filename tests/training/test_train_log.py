"""Metrics arrive one step late, a loss that is not finite stops the run, a rising held-out loss is told."""

import json
import math
from typing import Any

import jax.numpy as jnp
import pytest

from mdc_jax.config import sections
from mdc_jax.training import train_log
from mdc_jax.training.accounting import Cost
from mdc_jax.training.train_log import NonFiniteError, TrainLog
from tests.objectives import tiny


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


def make(recorder: Recorder, meta: dict | None = None, *, every: int = 2) -> TrainLog:
    cost = Cost(tiny.build(sections.MaskedDiffusion()), 1, "TPU v4", 2)
    return TrainLog(
        recorder, recorder, every=every, batch_size=4, meta=meta or {"window": [], "seconds": 1.0}, cost=cost
    )


def metrics(loss: float, **more: float) -> dict:
    others = {"grad_norm": 1.0, "param_norm": 1.0, "learning_rate": 0.1, **more}
    return {name: jnp.float32(value) for name, value in {"loss": loss, **others}.items()}


def test_metrics_of_another_version_do_not_stop_a_resume() -> None:
    recorder = Recorder()
    log = make(recorder)
    log.pend(1, metrics(1.0, gone=2.0), 0.0)
    log.read_pending()
    resumed = make(recorder, log.meta())
    resumed.pend(2, metrics(3.0, new=4.0), 0.0)
    resumed.read_pending()
    ((_, line),) = recorder.lines
    assert line["train/loss"] == 2.0 and not {"train/gone", "train/new"} & line.keys()


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
    assert step == 2 and line["train/loss"] == 2.0


def test_steps_that_learn_nothing_are_told() -> None:
    recorder = Recorder()
    log = make(recorder)
    for step, norm in enumerate((1.0, 0.0, 0.0, 0.0), 1):
        log.pend(step, metrics(0.0) | {"grad_norm": jnp.float32(norm)}, 0.0)
        log.read_pending()
    (said,) = recorder.said
    assert said.startswith("warning: no gradient since the last report (step 4)")


def test_a_metric_of_some_images_is_the_mean_over_those_of_all_steps() -> None:
    recorder = Recorder()
    log = make(recorder, every=3)
    for step, (share, sum_) in enumerate([(0.0, 0.0), (0.5, 0.25), (1.0, 0.8)] + 3 * [(0.0, 0.0)], start=1):
        log.pend(step, metrics(1.0, accuracy=sum_, accuracy_images=share), 0.0)
        log.read_pending()
    (_, some), (_, none) = recorder.lines
    assert some["train/accuracy"] == pytest.approx(1.05 / 1.5) and "train/accuracy_images" not in some
    assert math.isnan(none["train/accuracy"])


def test_the_speed_leaves_the_first_step_of_a_start_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(train_log.time, "perf_counter", lambda: now[0])
    recorder = Recorder()
    log = make(recorder)
    # The first two steps end 60 s (compilation) and 65 s after the start, the others after another 2 s each.
    for step, seconds in enumerate((60.0, 5.0, 2.0, 2.0), start=1):
        log.pend(step, metrics(1.0), 0.5)
        now[0] += seconds
        log.read_pending()
    (_, first), (_, second) = recorder.lines
    assert first["train/step_seconds"] == 5.0 and first["train/images_per_second"] == pytest.approx(4 / 5)
    assert second["train/step_seconds"] == 2.0 and second["train/images_per_second"] == pytest.approx(4 / 2)
    assert second["train/seconds_left"] == pytest.approx(6 * 2)
    assert second["train/goodput"] == pytest.approx((5 + 4) / 69)
    flops = tiny.build(sections.MaskedDiffusion()).flops(1)["train"]
    assert second["train/mfu"] == pytest.approx(2 * flops / (2 * 275e12))


def test_the_first_step_of_every_length_of_text_compiles_and_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(train_log.time, "perf_counter", lambda: now[0])
    recorder = Recorder()
    log = make(recorder, every=6)
    for step, (length, seconds) in enumerate(((4, 60.0), (4, 2.0), (6, 70.0), (4, 2.0), (6, 3.0), (6, 3.0)), start=1):
        assert log.compiles({"text": jnp.zeros((2, 1, length))}) == (step in (1, 3))
        log.pend(step, metrics(1.0, text_tokens=length), 0.5)
        now[0] += seconds
        log.read_pending()
    ((_, line),) = recorder.lines
    assert line["train/productive_seconds"] == 2 + 2 + 3 + 3 and line["train/seconds"] == 1 + 140
    assert line["train/step_seconds"] == pytest.approx(10 / 4)
    assert line["train/goodput"] == pytest.approx(10 / 140)
    flops = tiny.build(sections.MaskedDiffusion()).flops(1, text_tokens=5.0)["train"]
    assert line["train/mfu"] == pytest.approx(4 * flops / 2.5 / (2 * 275e12))
    assert make(recorder, log.meta()).compiles({"text": jnp.zeros((2, 1, 4))})  # another start compiles anew


def test_a_first_report_at_the_first_step_tells_no_speed() -> None:
    recorder = Recorder()
    log = make(recorder)
    log.pend(2, metrics(1.0), 0.0)
    log.read_pending()
    ((_, line),) = recorder.lines
    assert "train/loss" in line and "train/images_per_second" not in line


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


@pytest.mark.parametrize(
    "losses",
    [
        [(3.0, 2.0), (2.0, 2.2), (1.0, 2.1)],  # held-out loss rose once
        [(3.0, 2.0), (3.5, 2.1), (4.0, 2.2)],  # both rose
        [(3.0, 2.0), (2.0, 2.1)],
    ],
)
def test_does_not_warn_of_less(losses: list[tuple[float, float]]) -> None:
    recorder = Recorder()
    log = make(recorder)
    for i, (train, held_out) in enumerate(losses):
        for j in (1, 2):
            log.pend(2 * i + j, metrics(train), 0.0)
            log.read_pending()
        log.watch_held_out(held_out)
    assert not recorder.said
