"""The wall clock may jump by hours in both directions: no duration, no stopwatch and no order of saves follows it."""

import ast
import itertools
import pathlib
import time

import pytest
from etils import epath

import mdc_jax
from mdc_jax.report.metrics_file import read
from mdc_jax.training import checkpoint, loop, train_log
from tests.training import test_train_log as log_tests
from tests.training.test_checkpoint import make_state
from tests.training.test_loop import tiny

pytestmark = pytest.mark.usefixtures("one_device")
HOUR = 3600.0


@pytest.fixture
def jumps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the wall clock finds it hours before or after."""
    clock, far = time.time, itertools.cycle((3 * HOUR, -5 * HOUR, 0.0))
    monkeypatch.setattr(time, "time", lambda: clock() + next(far))


def test_nothing_measures_by_the_wall_clock() -> None:
    """It would be wrong by as much as the clock jumps; `time.monotonic` and `time.perf_counter` are not."""
    found = []
    for path in pathlib.Path(mdc_jax.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in ("time", "time_ns", "now", "utcnow"):
                owner = node.value
                name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
                if name in ("time", "datetime"):
                    found.append(f"{path}, line {node.lineno}")
    assert not found


@pytest.mark.usefixtures("jumps")
def test_a_run_and_its_resumption(tmp_path: pathlib.Path) -> None:
    began = time.perf_counter()
    loop.train(tiny(duration="3 steps"), tmp_path)
    loop.train(tiny(duration="6 steps"), tmp_path)
    elapsed = time.perf_counter() - began
    lines = [line for line in read(epath.Path(tmp_path)) if "train/loss" in line]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    seconds = [line["train/seconds"] for line in lines]
    assert seconds == sorted(seconds) and seconds[0] > 0 and seconds[-1] < elapsed
    measured = [line for line in lines if "train/goodput" in line]
    assert measured
    for line in measured:
        assert 0 < line["train/goodput"] <= 1 and 0 <= line["train/seconds_left"] < elapsed
    assert checkpoint.load(tmp_path).meta["seconds"] < elapsed


@pytest.mark.usefixtures("jumps")
def test_the_latest_checkpoint_is_that_of_the_last_step(tmp_path: pathlib.Path) -> None:
    for step in (1, 2, 3):
        checkpointer = checkpoint.Checkpointer(epath.Path(tmp_path))
        checkpointer.save(step, make_state(step), {"position": step})
        checkpointer.close()
        assert checkpoint.steps(tmp_path) == [step]


def test_the_stopwatch_goes_on_on_a_machine_that_was_started_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its clock without jumps counts from its start: what a checkpoint holds are seconds, not a time."""
    now = [9e6]
    monkeypatch.setattr(train_log.time, "perf_counter", lambda: now[0])
    log = log_tests.make(log_tests.Recorder())
    log.pend(1, log_tests.metrics(1.0), 0.0)
    now[0] += 30.0
    log.read_pending()
    meta = log.meta()
    assert meta["seconds"] == 31.0
    now[0] = 12.0
    recorder = log_tests.Recorder()
    log = log_tests.make(recorder, meta)
    for step in (2, 3, 4):
        log.pend(step, log_tests.metrics(1.0), 0.0)
        now[0] += 2.0
        log.read_pending()
    (_, line), (_, last) = recorder.lines
    assert line["train/seconds"] == 33.0 and last["train/seconds"] == 37.0
    assert last["train/seconds_left"] == 12.0 and last["train/goodput"] == pytest.approx(4 / 6)
