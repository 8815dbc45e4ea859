"""One of several processes fails by an exception: the others end with the reason, the same command goes on exactly."""

import pathlib
import re
import signal
import socket
import subprocess
import textwrap
import time
from collections.abc import Iterator
from concurrent import futures

import pytest
from etils import epath

from mdc_jax.training import metric_writer
from tests.end_to_end.command_line import TINY, finish, start

# Imported by Python before anything else: a bug that shows when a file appears.
BUG = """
    import ctypes, pathlib, threading, time

    def wait_and_raise(thread=threading.main_thread().ident):
        while not pathlib.Path({file!r}).exists():
            time.sleep(0.01)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(ZeroDivisionError))

    threading.Thread(target=wait_and_raise, daemon=True).start()
"""


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that must not outlive the test, which have no end of their own."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()


@pytest.mark.slow
def test_a_process_that_fails_ends_the_others_and_nothing_is_lost(
    tmp_path: pathlib.Path, started: list[subprocess.Popen[str]]
) -> None:
    workdir, now = tmp_path / "run", tmp_path / "now"
    (tmp_path / "bug").mkdir()
    (tmp_path / "bug" / "sitecustomize.py").write_text(textwrap.dedent(BUG).format(file=str(now)))
    two = start_two(workdir, {"PYTHONPATH": str(tmp_path / "bug")})
    started += two
    wait_for_step(workdir, 9)
    now.touch()
    begin = time.monotonic()
    (code, output), (code_of_bug, output_of_bug) = finish_all(two)
    assert time.monotonic() - begin < 60
    assert code_of_bug == 1 and "ZeroDivisionError" in output_of_bug
    assert code not in (0, 143) and "another process of this run is gone" in output, output
    before = losses(workdir)

    two = start_two(workdir, {})
    started += two
    wait_for_step(workdir, max(before) + 1)
    two[0].send_signal(signal.SIGTERM)
    results = finish_all(two)
    assert [code for code, _ in results] == [143, 143], results
    resumed = int(re.search(r"from step (\d+)\n", results[0][1])[1])
    assert 4 <= resumed <= max(before)
    after = losses(workdir)
    assert {step: after[step] for step in before} == before


def start_two(workdir: pathlib.Path, of_the_second: dict[str, str]) -> list[subprocess.Popen[str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        coordinator = f"--coordinator=127.0.0.1:{probe.getsockname()[1]}"
    # Without an end that is near, and with saves every few steps.
    run = [f"--config={TINY}", f"--workdir={workdir}", "--config.duration=100000 steps"]
    joining = [coordinator, "--num_processes=2"]
    return [
        start(*run, "--config.checkpoint.every=4 steps", *joining, f"--process_id={index}", environment=environment)
        for index, environment in enumerate(({}, of_the_second))
    ]


def finish_all(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    with futures.ThreadPoolExecutor() as pool:  # outputs are read at once: a full pipe would stop its process
        return list(pool.map(finish, processes))


def losses(workdir: pathlib.Path) -> dict[int, float]:
    lines = metric_writer.read(epath.Path(workdir))
    return {line["step"]: line["train/loss"] for line in lines if "train/loss" in line}


def wait_for_step(workdir: pathlib.Path, step: int) -> None:
    """Until the present start has logged it; a start leaves only lines that its checkpoint knows."""
    for _ in range(6_000):
        if max(losses(workdir), default=0) >= step:
            return
        time.sleep(0.1)
    raise TimeoutError(workdir)
