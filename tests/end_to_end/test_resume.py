"""However often a run is stopped, and on whatever devices it goes on, it ends where an undisturbed one ends."""

import pathlib
import random
import re
import shutil
import signal

import numpy as np
import pytest

from tests.end_to_end.command_line import assert_identical, interrupt, outcome, train


@pytest.mark.slow
def test_killed_runs_end_bit_identical(undisturbed: pathlib.Path, tmp_path: pathlib.Path) -> None:
    expected = outcome(undisturbed)
    for earliest in (1, 51, 101):
        code, output = interrupt(signal.SIGKILL, tmp_path, step=random.randrange(earliest, earliest + 50))
        assert code == -signal.SIGKILL, output
    train(tmp_path)
    assert_identical(outcome(tmp_path), expected)


@pytest.mark.slow
def test_sigterm_saves_the_step_it_stops_at_and_the_run_continues(
    undisturbed: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    expected = outcome(undisturbed)
    code, output = interrupt(signal.SIGTERM, tmp_path, step=random.randrange(1, 150))
    assert code == 0, output
    stopped = re.search(r"stopped at step (\d+) of 200", output)
    assert stopped, output
    assert outcome(tmp_path).step == int(stopped[1]) < 200
    assert f"from step {stopped[1]}" in train(tmp_path)
    assert_identical(outcome(tmp_path), expected)


@pytest.mark.slow
def test_finished_run_says_so_and_more_steps_continue_it(undisturbed: pathlib.Path, tmp_path: pathlib.Path) -> None:
    workdir = shutil.copytree(undisturbed, tmp_path / "run")
    before = outcome(workdir)
    output = train(workdir)
    assert "finished" in output
    assert "held_out/loss" in output
    assert_identical(outcome(workdir), before)

    output = train(workdir, "--config.duration=240 steps")
    assert "from step 200" in output
    assert outcome(workdir).step == 240
    assert outcome(workdir).losses[:200] == before.losses


@pytest.mark.slow
def test_run_moves_from_8_devices_to_2_to_1(undisturbed: pathlib.Path, tmp_path: pathlib.Path) -> None:
    expected = outcome(undisturbed)
    for step, devices, fsdp in ((3, 8, 4), (20, 2, 2)):
        code, output = interrupt(signal.SIGTERM, tmp_path, f"--config.mesh.fsdp={fsdp}", step=step, devices=devices)
        assert code == 0, output
        assert "stopped at step" in output, output
    train(tmp_path)
    moved = outcome(tmp_path)
    # Sums over devices round differently, and training amplifies that.
    np.testing.assert_allclose([loss for _, loss in moved.losses], [loss for _, loss in expected.losses], rtol=2e-3)
    assert [step for step, _ in moved.losses] == [step for step, _ in expected.losses]
