"""Runs of `python -m mdc_jax.main`, as users start them, and what these leave behind."""

import dataclasses
import os
import pathlib
import random
import subprocess
import sys
import time
import types
from collections.abc import Mapping

import jax
import numpy as np
from etils import epath

from mdc_jax.training import checkpoint, metric_writer
from tests import commands

ROOT = commands.ROOT
TINY = "tests/end_to_end/tiny.py"


def start(
    *arguments: str, devices: int = 1, environment: Mapping[str, str] = types.MappingProxyType({})
) -> subprocess.Popen[str]:
    """Starts the main command with these flags, and variables, on fake CPU devices."""
    return subprocess.Popen(
        [sys.executable, "-m", "mdc_jax.main", *arguments],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": commands.xla_flags(devices), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


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


def train(workdir: pathlib.Path, *arguments: str, devices: int = 1, config: str = TINY) -> str:
    """Trains to the end and returns what was printed; fails where the exit code is not 0."""
    code, output = run(f"--config={config}", f"--workdir={workdir}", *arguments, devices=devices)
    assert code == 0, output
    return output


def interrupt(number: int, workdir: pathlib.Path, *arguments: str, step: int, devices: int = 1) -> tuple[int, str]:
    """Starts a tiny run and sends it a signal at a random moment shortly after `step`; returns as `finish`."""
    before = _log(workdir)
    process = start(f"--config={TINY}", f"--workdir={workdir}", *arguments, devices=devices)
    while process.poll() is None:
        log = _log(workdir)
        if log != before and log and log[-1]["step"] >= step:
            break
        time.sleep(0.01)
    delay = random.uniform(0, 0.05)
    print(f"signal {number} {delay:.3f} s after step {step} was logged")  # shown where a test fails
    time.sleep(delay)
    process.send_signal(number)
    return finish(process)


@dataclasses.dataclass(frozen=True)
class Outcome:
    step: int
    params: dict[str, np.ndarray]  # by name
    losses: list[tuple[int, float]]  # (step, training loss), every line of the log


def outcome(workdir: pathlib.Path) -> Outcome:
    """Reads the latest checkpoint and the log of a run."""
    loaded = checkpoint.load(workdir)
    leaves = jax.tree_util.tree_leaves_with_path(loaded.params)
    lines = [line for line in _log(workdir) if "train/loss" in line]
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


def _log(workdir: pathlib.Path) -> list[dict[str, float]]:
    return metric_writer.read(epath.Path(workdir))
