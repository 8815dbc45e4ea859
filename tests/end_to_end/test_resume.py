"""However often a run is stopped, and on whatever devices it goes on, it ends where an undisturbed one ends."""

import pathlib
import shutil
import signal

import numpy as np
import pytest

from mdc_jax.benchmarks import soak
from tests import commands
from tests.end_to_end.command_line import TINY, assert_identical, interrupt, outcome, train

SEED = 157  # of signals of all kinds, while the run is at work


@pytest.mark.slow
def test_disturbed_runs_end_bit_identical(
    undisturbed: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A miniature of the soak, which raises where anything differs."""
    monkeypatch.setenv("XLA_FLAGS", commands.xla_flags(devices=1))  # as the undisturbed run has it
    shutil.copytree(undisturbed, tmp_path / "undisturbed")
    events = soak.soak([f"--config={TINY}"], tmp_path, pauses={40}, kills=3, seed=SEED)
    assert [event["signal"] for event in events] == ["SIGKILL", "SIGSTOP", "SIGTERM", ""]
    assert events[2]["code"] == 143
    assert events[2]["last_step_seconds"] + events[2]["save_seconds"] < events[2]["exit_seconds"]
    description = soak.describe(events, tmp_path)
    assert "identical" in description and "from there to the save" in description
    assert soak.soak([f"--config={TINY}"], tmp_path, pauses={40}, kills=3, seed=SEED) == events  # none is sent again

    log = tmp_path / "disturbed" / "metrics.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    for changed in (lines[:50] + lines[51:], lines[:50] + lines[49:]):
        log.write_text("".join(changed))
        with pytest.raises(soak.SoakFailed, match="line 50 of metrics"):
            soak.compare(tmp_path / "undisturbed", tmp_path / "disturbed")


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
        assert code == 143, output
        assert "stopped at step" in output, output
    train(tmp_path)
    moved = outcome(tmp_path)
    # Sums over devices round differently, and training amplifies that.
    np.testing.assert_allclose([loss for _, loss in moved.losses], [loss for _, loss in expected.losses], rtol=2e-3)
    assert [step for step, _ in moved.losses] == [step for step, _ in expected.losses]
