"""One of several processes fails by an exception: the others end with the reason, the same command goes on exactly."""

import math
import pathlib
import re
import textwrap
import time

import pytest

from tests.end_to_end.command_line import finish_all, losses, start_all, wait_for_step

# Imported by Python before anything else: a bug that shows when a file appears.
BUG = """
    import ctypes, pathlib, threading, time

    def wait_and_raise(thread=threading.main_thread().ident):
        while not pathlib.Path({file!r}).exists():
            time.sleep(0.01)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(ZeroDivisionError))

    threading.Thread(target=wait_and_raise, daemon=True).start()
"""
# Neither the processes nor their batches divide the number of examples, of which an epoch ends every 13 steps.
EXAMPLES, EPOCHS, BATCH = 101, 6, 8


@pytest.mark.slow
def test_a_process_that_fails_ends_the_others_and_nothing_is_lost(tmp_path: pathlib.Path) -> None:
    workdir, now = tmp_path / "run", tmp_path / "now"
    (tmp_path / "bug").mkdir()
    (tmp_path / "bug" / "sitecustomize.py").write_text(textwrap.dedent(BUG).format(file=str(now)))
    run = [
        f"--config.data.train=scenes:train,size=32,count={EXAMPLES}",
        f"--config.duration={EPOCHS} epochs",
        "--config.checkpoint.every=4 steps",
    ]
    two = start_all(workdir, *run, count=2, of_the_last={"PYTHONPATH": str(tmp_path / "bug")})
    wait_for_step(workdir, 9)
    now.touch()
    begin = time.monotonic()
    (code, output), (code_of_bug, output_of_bug) = finish_all(two)
    assert time.monotonic() - begin < 60
    assert code_of_bug == 1 and "ZeroDivisionError" in output_of_bug
    assert code not in (0, 143) and "another process of this run is gone" in output, output
    before = losses(workdir)

    # All take the same steps to the end, also where the data give them no equal share of an epoch.
    results = finish_all(start_all(workdir, *run, "--config.checkpoint.every=1000 steps", count=2))
    assert [code for code, _ in results] == [0, 0], results
    resumed = int(re.search(r"from step (\d+)\n", results[0][1])[1])
    assert 4 <= resumed <= max(before)
    after = losses(workdir)
    assert list(after) == list(range(1, math.ceil(EPOCHS * EXAMPLES / BATCH) + 1))
    assert {step: after[step] for step in before} == before
