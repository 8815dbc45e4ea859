"""What interruptions cost, by the log and by the clock of who sends them."""

import pytest

from mdc_jax.benchmarks import soak
from tests.training import test_train_log as logs


def test_goodput_over_all_starts_is_the_same_by_both_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of 2 s, of which .5 s are a wait for data; starts of 30 s, whose first step takes 20 s more."""
    now = [0.0]
    monkeypatch.setattr(logs.train_log.time, "perf_counter", lambda: now[0])
    events, lines, meta, step = [], [], None, 0
    # The first process is killed 4 steps after its checkpoint of step 6, the second one right after that of 12.
    for kept, done in ((6, 10), (12, 12), (20, 20)):
        begin = now[0]
        now[0] += 30.0
        recorder = logs.Recorder()
        log = logs.make(recorder, meta)
        first = step + 1
        while step < done:
            step += 1
            now[0] += 22.0 if step == first else 2.0
            log.pend(step, logs.metrics(1.0), 0.5)
            log.read_pending()
            if step == kept:
                meta = log.meta()
        lines = [line for line in lines if line["step"] <= first - 1] + [
            {"step": at, **values} for at, values in recorder.lines
        ]
        step = kept
        events.append({"signal": "SIGKILL", "seconds": now[0] - begin})
    assert events[-1]["seconds"] == 30 + 22 + 7 * 2
    found = soak.goodput(events, lines, steps=20, step_seconds=1.5)
    assert found.seconds == 3 * 50 + 2 * (10 + 6 + 8)
    assert found.by_the_clock == pytest.approx(20 * 1.5 / found.seconds)
    # The first step of each start is in one clock alone.
    assert found.by_the_log == pytest.approx(17 * 1.5 / found.seconds)
