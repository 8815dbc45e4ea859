"""The steps of a window are traced wherever a start begins in it, and a window that is missed is told."""

from typing import Any

import pytest
from etils import epath

from mdc_jax.training import step_trace


@pytest.mark.parametrize(
    ("start", "total", "expected"),
    [
        (0, 9, ["start 2", "stop 5", "say trace of steps (log.profile): /run/profile"]),
        (3, 9, ["start 3", "stop 5", "say trace of steps (log.profile): /run/profile"]),  # a resumed run
        (0, 4, ["start 2", "stop 4", "say trace of steps (log.profile): /run/profile"]),  # ends within
        (5, 9, ["say warning: log.profile=2:5 traces nothing: this start goes from step 5 to 9; give a window within"]),
        (0, 2, ["say warning: log.profile=2:5 traces nothing: this start goes from step 0 to 2; give a window within"]),
    ],
)
def test_what_is_traced_and_told(monkeypatch: pytest.MonkeyPatch, start: int, total: int, expected: list[str]) -> None:
    events: list[str] = []
    done = start

    def start_trace(folder: Any) -> None:
        events.append(f"start {done}")

    monkeypatch.setattr(step_trace.jax.profiler, "start_trace", start_trace)
    monkeypatch.setattr(step_trace.jax.profiler, "stop_trace", lambda: events.append(f"stop {done}"))
    trace = step_trace.StepTrace(
        (2, 5), epath.Path("/run/profile"), start=start, total=total, say=lambda text: events.append(f"say {text}")
    )
    for done in range(start, total):
        trace.before_step(done, None)
    done = total
    trace.close()
    assert events == expected


def test_without_a_window_nothing_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_trace.jax.profiler, "start_trace", lambda folder: pytest.fail("traced"))
    trace = step_trace.StepTrace(None, epath.Path("/run/profile"), start=0, total=9, say=pytest.fail)
    trace.before_step(0, None)
    trace.close()
