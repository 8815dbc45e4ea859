"""What befalls a run while it trains costs the steps since its last checkpoint, and is told with what to do then."""

import os
import pathlib
import subprocess
import sys
from typing import NamedTuple

import pytest

from mdc_jax.training import checkpoint
from tests import commands
from tests.end_to_end import faulty
from tests.end_to_end.command_line import TINY, assert_identical, outcome, train

CONTINUES = "the same command continues from the last checkpoint"
FREE = f"Free space there, or make it writable; {CONTINUES}"
FULL, FORBIDDEN = f"Free space there; {CONTINUES}", f"Make it readable and writable; {CONTINUES}"


class Strike(NamedTuple):
    fault: str
    step: int  # at which it comes
    code: int  # that the process ends with
    saved: int  # step of the checkpoint that it leaves
    said: tuple[str, ...]  # in the last line


STRIKES = (
    Strike("no_space_for_a_checkpoint", 15, 1, 10, ("a checkpoint could not be written to {workdir}: ", FREE)),
    Strike("read_only", 35, 1, 30, ("a checkpoint could not be written to {workdir}: ", FREE)),
    Strike(
        "read_only", 35, 1, 30, ("{workdir}/config.json.unfinished cannot be opened: Permission denied. ", FORBIDDEN)
    ),
    Strike("no_space_for_the_log", 55, 1, 50, ("{workdir} cannot be written: File too large. ", FULL)),
    Strike("out_of_memory", 75, 1, 70, ("Lower data.batch_size, ", "model.remat=on", CONTINUES)),
    Strike("ctrl_c", 95, 143, 96, ("stopped at step 96 of 200, saved; the same command continues",)),
    Strike("ctrl_c_twice", 115, 1, 110, (f"interrupted; {CONTINUES}",)),
)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux" and os.geteuid() == 0,
    reason="not run: only Linux can keep root from writing; pass this test as another user",
)
def test_a_run_that_everything_happens_to_ends_as_one_that_was_left_alone(
    undisturbed: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    workdir, start = tmp_path / "run", "scratch"
    for strike in STRIKES:
        done = struck(strike, workdir)
        assert done.returncode == strike.code, done.stderr
        assert f", from {start}\n" in done.stdout
        last = (done.stdout if strike.code == 143 else done.stderr).splitlines()[-1]
        for part in strike.said:
            assert part.format(workdir=workdir) in last, done.stderr
        assert checkpoint.steps(workdir)[-1] == strike.saved
        start = f"step {strike.saved}"
        if strike == STRIKES[2]:
            faulty.make_writable(workdir)
    assert f", from {start}\n" in train(workdir)
    assert_identical(outcome(workdir), outcome(undisturbed))


def struck(strike: Strike, workdir: pathlib.Path) -> subprocess.CompletedProcess[str]:
    """A start to which this happens."""
    return commands.run(
        "tests.end_to_end.faulty",
        *(strike.fault, strike.step, f"--config={TINY}", f"--workdir={workdir}"),
        f"--config.checkpoint.every={faulty.EVERY} steps",
        environment={"XLA_FLAGS": commands.xla_flags(devices=1)},  # as the undisturbed run has it
    )
