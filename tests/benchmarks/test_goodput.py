"""What interruptions cost, by the log and by the clock of who sends them."""

import pytest

from mdc_jax.benchmarks import goodput
from tests.training import test_train_log as logs

SAVE_EVERY = 6


def test_goodput_over_all_starts_is_the_same_by_both_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of 2 s, of which .5 s are a wait for data; saves that hold up 7 s; starts of 30 s, and 20 s to compile."""
    now = [0.0]
    monkeypatch.setattr(logs.train_log.time, "perf_counter", lambda: now[0])
    events, lines, meta, step = [], [], None, 0
    stopwatch = goodput.Stopwatch({SAVE_EVERY})
    # The first process is killed 4 steps after its checkpoint of step 6, the second one right after that of 12.
    for kept, done in ((6, 10), (12, 12), (20, 20)):
        begin = now[0]
        stopwatch.start(lines[-1]["step"] if lines else 0)
        now[0] += 30.0
        recorder = logs.Recorder()
        log = logs.make(recorder, meta, every=1)
        lines = [line for line in lines if line["step"] <= step]
        first = step + 1
        while step < done:
            step += 1
            now[0] += 22.0 if step == first else 2.0
            log.pend(step, logs.metrics(1.0), 0.5)
            log.read_pending()
            stopwatch.see(step, now[0])
            if step % SAVE_EVERY == 0 or step == 20:
                with log.paused():
                    meta = log.meta()
                    now[0] += 7.0
        lines += [{"step": at, **values} for at, values in recorder.lines]
        step = kept
        events.append({"signal": "SIGKILL", "saved": kept, "seconds": now[0] - begin, **stopwatch.timed(kept)})
    # A process that ended before it had saved anything adds its seconds alone.
    events.insert(2, {"signal": "SIGTERM", "saved": 12, "seconds": 31.0, "timed_steps": 0, "timed_seconds": 0.0})
    found = goodput.of(events, lines)
    assert found.seconds == 3 * 50 + 2 * (10 + 6 + 8) + 7 * 4 + 31
    assert found.by_the_log == pytest.approx((20 - 3) * 2 / found.seconds)
    assert found.by_the_clock == pytest.approx(found.by_the_log)


def test_steps_in_between_which_a_run_pauses_are_not_timed() -> None:
    stopwatch = goodput.Stopwatch({10, 15})
    stopwatch.start(3)
    for step, now in ((3, 1.0), (4, 9.0), (9, 10.0), (10, 10.2), (11, 99.0), (14, 99.6), (16, 200.0), (16, 300.0)):
        stopwatch.see(step, now)
    timed = stopwatch.timed(16)
    assert timed["timed_steps"] == (10 - 4) + (14 - 11) and timed["timed_seconds"] == pytest.approx(1.2 + 0.6)
    assert stopwatch.timed(10)["timed_steps"] == 10 - 4  # the rest is repeated
    stopwatch.start(10)
    assert stopwatch.timed(10) == {"timed_steps": 0, "timed_seconds": 0}
