"""Several processes of one run, on this machine: they train, stop, fail and go on together."""

import pathlib
import re
import signal
import socket
import subprocess
import time
from concurrent import futures

import numpy as np
import pytest

from tests.end_to_end.command_line import TINY, finish, outcome, start, train

EVALUATED = (
    "--config.evaluators.held_out.every=25 steps",
    "--config.evaluators.held_out.examples=13",  # in batches of 8 rows over all processes: the last one is uneven
)


@pytest.mark.slow
def test_runs_of_several_processes_stop_and_go_on_as_one(undisturbed: pathlib.Path, tmp_path: pathlib.Path) -> None:
    # Two processes, joined as Slurm tells, and then four, joined by flags, of which one is asked to stop: all save the
    # same step.
    stopped = 0
    for count, slurm in ((2, True), (4, False)):
        processes = start_all(tmp_path / "run", *EVALUATED, count=count, slurm=slurm)
        wait_for_step(tmp_path / "run", stopped + 3)
        processes[-1].send_signal(signal.SIGTERM)
        results = finish_all(processes)
        assert [code for code, _ in results] == [143] * count, results
        assert (f"from step {stopped}\n" if stopped else "from scratch\n") in results[0][1]
        stopped = int(re.search(r"stopped at step (\d+) of 200, saved", results[0][1])[1])
        assert outcome(tmp_path / "run").step == stopped
    # One ends it as one that was alone from the start does.
    train(tmp_path / "run", *EVALUATED)
    got, expected = outcome(tmp_path / "run"), outcome(undisturbed)
    assert [step for step, _ in got.losses] == [step for step, _ in expected.losses]
    # Sums over devices round differently, and training amplifies that.
    losses, alone = ([loss for _, loss in run.losses] for run in (got, expected))
    np.testing.assert_allclose(losses[:15], alone[:15], rtol=1e-4)
    np.testing.assert_allclose(losses, alone, rtol=2e-3)


@pytest.mark.slow
def test_a_process_that_dies_ends_the_others_with_the_reason(tmp_path: pathlib.Path) -> None:
    two = start_all(tmp_path, "--config.duration=100000 steps", count=2)
    wait_for_step(tmp_path, 3)
    two[1].kill()
    begin = time.monotonic()
    code, output = finish(two[0])
    assert time.monotonic() - begin < 60
    assert code not in (0, 143), output
    assert "another process of this run is gone" in output
    finish(two[1])


def start_all(workdir: pathlib.Path, *arguments: str, count: int, slurm: bool = False) -> list[subprocess.Popen[str]]:
    """Starts the processes of a run, which are told of each other by flags or by the variables of a Slurm job."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = [f"--config={TINY}", f"--workdir={workdir}", *arguments]
    processes = []
    for index in range(count):
        if slurm:
            job = {"JOB_ID": "1", "STEP_NODELIST": "127.0.0.1", "NTASKS": f"{count}", "PROCID": f"{index}"}
            environment = {f"SLURM_{name}": value for name, value in {**job, "LOCALID": f"{index}"}.items()}
            joining = ["--coordinator=auto"]
            environment["JAX_COORDINATOR_PORT"] = str(port)
        else:
            environment = {}
            joining = [f"--coordinator=127.0.0.1:{port}", f"--num_processes={count}", f"--process_id={index}"]
        processes.append(start(*flags, *joining, environment=environment))
    return processes


def finish_all(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    with futures.ThreadPoolExecutor() as pool:  # outputs are read at once: a full pipe would stop its process
        return list(pool.map(finish, processes))


def wait_for_step(workdir: pathlib.Path, step: int) -> None:
    log = workdir / "metrics.jsonl"
    for _ in range(24_000):
        if log.exists() and f'{{"step": {step}, "train' in log.read_text():
            return
        time.sleep(0.01)
    raise TimeoutError(log)
