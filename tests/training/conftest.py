"""Fixtures of the tests of the trainer."""

import pytest

from mdc_jax.training import loop, sharding


@pytest.fixture
def one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs train on one of the eight devices: a tiny model on many is slow."""
    make_mesh = sharding.make_mesh
    monkeypatch.setattr(loop.sharding, "make_mesh", lambda section: make_mesh(section, loop.jax.devices()[:1]))
