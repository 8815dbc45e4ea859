"""Fixtures of the tests of the trainer."""

import pytest

from mdc_jax.training import checkpoint, loop, sharding


@pytest.fixture
def one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs train on one of the eight devices: a tiny model on many is slow."""
    make_mesh = sharding.make_mesh
    monkeypatch.setattr(loop.sharding, "make_mesh", lambda section: make_mesh(section, loop.jax.devices()[:1]))


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads checkpoints that are damaged for good once more at once."""
    monkeypatch.setattr(checkpoint, "_PAUSE", 0.0)
