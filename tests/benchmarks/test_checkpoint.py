"""The benchmark of checkpoints measures all that it says, with what the trainer saves."""

import dataclasses
import pathlib

import numpy as np
import pytest
from etils import epath

from mdc_jax import command
from mdc_jax.benchmarks import checkpoint
from mdc_jax.config import parse, sections

CONFIG = str(pathlib.Path(__file__).parents[2] / "configs" / "scenes.py:runlocal")


@pytest.mark.long
@pytest.mark.slow
def test_what_is_lost_and_how_fast_a_state_is_moved(tmp_path: pathlib.Path) -> None:
    config = dataclasses.replace(parse(command.load(CONFIG)), mesh=sections.Mesh(data=8))
    found = checkpoint.lost(config, epath.Path(tmp_path) / "lost", every=1000, repeats=1)
    assert (found.step_seconds > 0).all() and (found.share < 1).all()
    blocked, written, read = (seconds for _, seconds in checkpoint.speed(0.01, epath.Path(tmp_path) / "speed"))
    assert 0 < blocked[0] < written[0] and read[0] > 0


def test_the_share_is_of_the_time_between_two_saves() -> None:
    lost = checkpoint.Lost(every=100, step_seconds=np.array([0.1, 0.2]), seconds=np.array([0.0, 5.0]))
    np.testing.assert_allclose(lost.share, [0, 0.2])
