"""One of several processes fails by an exception: the others end with the reason, the same command goes on exactly."""

import math
import pathlib
import re
import time

import pytest

from tests.end_to_end import faulty
from tests.end_to_end.command_line import StartAll, finish_all, losses, wait_for_step

# Neither the processes nor their batches divide the number of examples, of which an epoch ends every 13 steps.
EXAMPLES, EPOCHS, BATCH = 101, 6, 8


@pytest.mark.slow
def test_a_process_that_fails_ends_the_others_and_nothing_is_lost(tmp_path: pathlib.Path, start_all: StartAll) -> None:
    run = [
        f"--config.data.train=scenes:train,size=32,count={EXAMPLES}",
        f"--config.duration={EPOCHS} epochs",
        f"--config.checkpoint.every={faulty.EVERY} steps",
    ]
    two = start_all(tmp_path, *run, count=2, last=("tests.end_to_end.faulty", "bug", "19"))
    wait_for_step(tmp_path, faulty.EVERY, two)
    begin = time.monotonic()
    (code, output), (code_of_bug, output_of_bug) = finish_all(two)
    assert time.monotonic() - begin < 60
    assert code_of_bug == 1 and "ZeroDivisionError" in output_of_bug
    assert code not in (0, 143) and "another process of this run is gone" in output, output
    before = losses(tmp_path)

    # All take the same steps to the end, also where the data give them no equal share of an epoch.
    results = finish_all(start_all(tmp_path, *run, "--config.checkpoint.every=1000 steps", count=2))
    assert [code for code, _ in results] == [0, 0], results
    resumed = int(re.search(r"from step (\d+)\n", results[0][1])[1])
    assert resumed == faulty.EVERY < max(before)
    after = losses(tmp_path)
    assert list(after) == list(range(1, math.ceil(EPOCHS * EXAMPLES / BATCH) + 1))
    assert {step: after[step] for step in before} == before
