"""Runs of `python -m mdc_jax.main`, as users start them, and what these leave behind."""

import dataclasses
import os
import pathlib
import random
import socket
import subprocess
import sys
import time
import types
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures

import jax
import numpy as np
from etils import epath

from mdc_jax.report import metrics_file
from mdc_jax.training import checkpoint
from tests import commands

ROOT = commands.ROOT
TINY = "tests/end_to_end/tiny.py"
MAIN = ("mdc_jax.main",)
StartAll = Callable[..., list[subprocess.Popen[str]]]  # `start_all` below, as the fixture of this name


def start(
    *arguments: str,
    devices: int = 1,
    environment: Mapping[str, str] = types.MappingProxyType({}),
    program: Sequence[str] = MAIN,
) -> subprocess.Popen[str]:
    """Starts the main command, or another program, with these flags and variables, on fake CPU devices."""
    return subprocess.Popen(
        [sys.executable, "-m", *program, *arguments],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": commands.xla_flags(devices), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def start_all(
    workdir: pathlib.Path,
    *arguments: str,
    count: int,
    devices: int = 1,
    slurm: bool = False,
    program: Sequence[str] = MAIN,
    last: Sequence[str] = (),
) -> list[subprocess.Popen[str]]:
    """Starts the processes of a tiny run, which are told of each other by flags or by the variables of a Slurm job.

    `last` is the program of the last process where that is another one, as `faulty` is. Tests have this as a fixture,
    which ends them.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = [f"--config={TINY}", f"--workdir={workdir}", *arguments]
    processes = []
    for index in range(count):
        environment = {}
        if slurm:
            job = {"JOB_ID": "1", "STEP_NODELIST": "127.0.0.1", "NTASKS": f"{count}", "PROCID": f"{index}"}
            environment = {f"SLURM_{name}": value for name, value in {**job, "LOCALID": f"{index}"}.items()}
            environment["JAX_COORDINATOR_PORT"] = str(port)
            joining = ["--coordinator=auto"]
        else:
            joining = [f"--coordinator=127.0.0.1:{port}", f"--num_processes={count}", f"--process_id={index}"]
        own = last if last and index == count - 1 else program
        processes.append(start(*flags, *joining, devices=devices, environment=environment, program=own))
    return processes


def run(*arguments: str, devices: int = 1) -> tuple[int, str]:
    """The main command with these flags from start to end, without its start-up; returns as `finish`."""
    done = commands.run("mdc_jax.main", *arguments, environment={"XLA_FLAGS": commands.xla_flags(devices)})
    return done.returncode, done.stdout + done.stderr


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Waits for the end, though not for ever; returns exit code and output."""
    try:
        output, _ = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
    return process.returncode, output


def finish_all(processes: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    with futures.ThreadPoolExecutor() as pool:  # outputs are read at once: a full pipe would stop its process
        return list(pool.map(finish, processes))


def train(workdir: pathlib.Path, *arguments: str, devices: int = 1, config: str = TINY) -> str:
    """Trains to the end and returns what was printed; fails where the exit code is not 0."""
    code, output = run(f"--config={config}", f"--workdir={workdir}", *arguments, devices=devices)
    assert code == 0, output
    return output


def interrupt(number: int, workdir: pathlib.Path, *arguments: str, step: int, devices: int = 1) -> tuple[int, str]:
    """Starts a tiny run and sends it a signal at a random moment shortly after `step`; returns as `finish`."""
    before = logged(workdir)
    process = start(f"--config={TINY}", f"--workdir={workdir}", *arguments, devices=devices)
    while process.poll() is None:
        log = logged(workdir)
        if log != before and log and log[-1]["step"] >= step:
            break
        time.sleep(0.01)
    delay = random.uniform(0, 0.05)
    print(f"signal {number} {delay:.3f} s after step {step} was logged")  # shown where a test fails
    time.sleep(delay)
    process.send_signal(number)
    return finish(process)


def losses(workdir: pathlib.Path) -> dict[int, float]:
    """The training losses of the log, by step."""
    return {line["step"]: line["train/loss"] for line in logged(workdir) if "train/loss" in line}


def wait_for_step(workdir: pathlib.Path, step: int, processes: Sequence[subprocess.Popen[str]]) -> None:
    """Until the present start has logged it; a start leaves only lines that its checkpoint knows.

    Fails with what the processes printed where one of them ends before, or after four minutes.
    """
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        ended = any(process.poll() is not None for process in processes)  # asked first: one may log the step and end
        if max(losses(workdir), default=0) >= step:
            return
        if ended:
            break
        time.sleep(0.02)
    for process in processes:
        process.kill()
    raise AssertionError(f"{workdir} has not come to step {step}: {finish_all(processes)}")


@dataclasses.dataclass(frozen=True)
class Outcome:
    step: int
    params: dict[str, np.ndarray]  # by name
    losses: list[tuple[int, float]]  # (step, training loss), every line of the log


def outcome(workdir: pathlib.Path) -> Outcome:
    """Reads the latest checkpoint and the log of a run."""
    loaded = checkpoint.load(workdir)
    leaves = jax.tree_util.tree_leaves_with_path(loaded.params)
    lines = [line for line in logged(workdir) if "train/loss" in line]
    return Outcome(
        step=loaded.step,
        params={jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves},
        losses=[(line["step"], line["train/loss"]) for line in lines],
    )


def assert_identical(got: Outcome, expected: Outcome) -> None:
    """The same steps, parameters and log, to the last bit."""
    assert got.step == expected.step
    assert got.losses == expected.losses
    assert got.params.keys() == expected.params.keys()
    different = [name for name in expected.params if not np.array_equal(got.params[name], expected.params[name])]
    assert not different


def logged(workdir: pathlib.Path) -> list[dict[str, float]]:
    return metrics_file.read(epath.Path(workdir))
