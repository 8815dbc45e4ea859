"""Several processes of one run, on this machine: they train, stop, go silent, die and go on together."""

import pathlib
import re
import signal
import subprocess
import time
from collections.abc import Sequence

import numpy as np
import pytest
from etils import epath

from mdc_jax.report import metrics_file
from tests.end_to_end.command_line import StartAll, finish_all, logged, losses, outcome, train, wait_for_step

ENDLESS, SHORTER = "--config.duration=100000 steps", "--config.duration=15 steps"


def evaluated(examples: int) -> tuple[str, str]:
    return (
        "--config.evaluators.held_out.every=25 steps",
        f"--config.evaluators.held_out.examples={examples}",
    )


@pytest.mark.slow
def test_runs_of_several_processes_stop_and_go_on_as_one(
    undisturbed: pathlib.Path, tmp_path: pathlib.Path, start_all: StartAll
) -> None:
    run = tmp_path / "run"
    # Two processes, joined as Slurm tells, of which one is asked to stop in an evaluation that takes seconds.
    two = start_all(run, *evaluated(4000), count=2, slurm=True)
    wait_for_step(run, 25, two)  # which is logged before it is evaluated
    two[1].send_signal(signal.SIGTERM)
    results = finish_all(two)
    assert [code for code, _ in results] == [143, 143], results
    assert "stopped at step 25 of 200, saved" in results[0][1]
    # Four, joined by flags, make up for it, and are stopped between steps.
    shorter = evaluated(13)  # in batches of 8 rows over all processes: the last one is uneven
    four = start_all(run, *shorter, count=4)
    wait_for_step(run, 28, four)
    four[0].send_signal(signal.SIGTERM)
    results = finish_all(four)
    assert [code for code, _ in results] == [143] * 4, results
    assert "from step 25\n" in results[0][1]
    stopped = int(re.search(r"stopped at step (\d+) of 200, saved", results[0][1])[1])
    assert outcome(run).step == stopped
    # One ends it as one that was alone from the start does.
    train(run, *shorter)
    assert [line["step"] for line in logged(run) if "held_out/loss" in line] == list(range(25, 201, 25))
    got, expected = outcome(run), outcome(undisturbed)
    assert [step for step, _ in got.losses] == [step for step, _ in expected.losses]
    # Sums over devices round differently, and training amplifies that.
    losses, alone = ([loss for _, loss in run.losses] for run in (got, expected))
    np.testing.assert_allclose(losses[:15], alone[:15], rtol=1e-4)
    np.testing.assert_allclose(losses, alone, rtol=2e-3)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The workdir of a shorter run of one process and one device."""
    workdir = tmp_path_factory.mktemp("alone")
    train(workdir, SHORTER)
    return workdir


@pytest.mark.slow
@pytest.mark.parametrize("tensor", [pytest.param(1, marks=pytest.mark.long), 2])
def test_where_the_processes_of_a_mesh_lie_changes_nothing(
    alone: pathlib.Path, tmp_path: pathlib.Path, start_all: StartAll, tensor: int
) -> None:
    """Rows of a batch belong to processes in no order, or (tensor=2) each to two of them."""
    flags = (SHORTER, f"--config.mesh.tensor={tensor}")
    results = finish_all(start_all(tmp_path, *flags, count=2, devices=2, program=("tests.end_to_end.torus",)))
    assert [code for code, _ in results] == [0, 0], results
    np.testing.assert_allclose(list(losses(tmp_path).values()), list(losses(alone).values()), rtol=1e-4)
    (_, held_out), (_, expected) = (metrics_file.read_results(epath.Path(workdir)) for workdir in (tmp_path, alone))
    assert held_out == pytest.approx(expected, rel=1e-4)


@pytest.mark.long
@pytest.mark.slow
def test_a_process_that_dies_ends_all_others_with_the_reason(tmp_path: pathlib.Path, start_all: StartAll) -> None:
    four = start_all(tmp_path, ENDLESS, count=4)
    wait_for_step(tmp_path, 3, four)
    four[2].kill()
    ended_with_the_reason([*four[:2], four[3]])


@pytest.mark.long
@pytest.mark.slow
def test_a_silent_process_and_the_death_of_the_first_end_the_other(tmp_path: pathlib.Path, start_all: StartAll) -> None:
    """The first of these is noticed after the time without heartbeats, and meanwhile the watchdog shows who waits."""
    two = start_all(tmp_path / "silent", ENDLESS, "--config.log.watchdog=5", count=2)
    others = start_all(tmp_path / "first", ENDLESS, count=2)
    wait_for_step(tmp_path / "silent", 3, two)
    wait_for_step(tmp_path / "first", 3, others)
    two[1].send_signal(signal.SIGSTOP)
    others[0].kill()
    output, _ = ended_with_the_reason([two[0], others[1]])
    stacks = output.partition("Timeout (0:00:05)!")[2]
    assert re.search(r"loop\.py\", line \d+ in _loop\n", stacks)


def ended_with_the_reason(processes: Sequence[subprocess.Popen[str]]) -> list[str]:
    """What processes printed that lost another one, and have to end within a minute and say so."""
    begin = time.monotonic()
    results = finish_all(processes)
    assert time.monotonic() - begin < 60
    for code, output in results:
        assert code not in (0, 143), output
        # The last is JAX's own reason, which is said at once where the first process, which serves the others, is gone.
        assert re.search("another process of this run is gone|heartbeat|another task died", output), output
    return [output for _, output in results]
