"""A small run of the benchmark: counts to the last one, the same bytes however often, also after SIGKILL."""

import pytest

from mdc_jax.benchmarks import prepare
from mdc_jax.data.prepare.manifest import Manifest


@pytest.mark.slow
def test_damage_is_counted_and_bytes_are_the_same_after_a_kill(tmp_path):
    every, megabytes = 6, 7
    numbers = prepare.measure(tmp_path, megabytes, workers=2, kills=1, seed=0, every=every)
    reasons = {reason for reason, _ in prepare.damages(prepare._pictures()[0])}
    assert reasons < Manifest.read(tmp_path / "whole").all_dropped().keys()  # every kind of damage was there
    assert numbers["peak MiB, 2 processes"] < 1536
    assert numbers["times killed"] == 1
