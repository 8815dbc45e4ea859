"""The benchmark's parts run and measure what they say."""

import numpy as np
import pytest

from mdc_jax.benchmarks import input_pipeline, other_decoders, photographs


@pytest.fixture(scope="module")
def data():
    with input_pipeline.prepared(120, 160, 32) as data:
        yield data


def test_photographs_are_each_another_and_always_the_same():
    first, second = (photographs.photograph(500, 700, index) for index in (0, 2))
    assert first.shape == (500, 700, 3) and first.dtype == np.uint8
    assert (first != second).mean() > 0.5
    np.testing.assert_array_equal(first, photographs.photograph(500, 700, 0))
    assert 30_000 < np.mean([len(data) for data in photographs.jpegs(384, 512, 8)]) < 90_000


def test_stages_are_parts_of_the_whole(data):
    seconds = input_pipeline.stages(data, repeats=1)
    assert list(seconds) == [
        "read",
        "decode",
        "crop, resize",
        "augment",
        "tokenize",
        "batch",
        "whole",
        "decode + resize",
    ]
    assert all(len(values) == 1 and values[0] >= 0 for values in seconds.values())
    assert seconds["whole"][0] > max(seconds["read"][0], seconds["tokenize"][0])


def test_decoders_are_held_against_pillow(data):
    found = {name: (seconds, difference) for name, seconds, difference in input_pipeline.decoders(data.encoded, 1)}
    assert found["Pillow, bilinear"][1] == 0
    assert 0 < found["mdc_jax"][1] < 2
    for name, package in (("tf.data, antialiased", "tensorflow"), ("torch DataLoader, Pillow", "torch")):
        seconds, difference = found[name]
        assert (seconds is None) == (other_decoders.installed(package) is None)
        assert seconds is None or difference < 2


def test_delayed_records_are_read_faster_by_many(data, monkeypatch):
    monkeypatch.setattr(input_pipeline, "LATENCY", 0.01)
    monkeypatch.setattr(input_pipeline, "READERS", (1, 8, 0))
    one, eight, chosen = input_pipeline.delayed(data)
    assert one[1] == 1 and eight[1] == 8 and chosen[1] > 1
    assert one[2] < eight[2]
