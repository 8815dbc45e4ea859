"""The benchmark's parts run and measure what they say."""

import numpy as np
import pytest
from etils import epath

from mdc_jax.benchmarks import input_pipeline, other_decoders, photographs
from mdc_jax.report import tables


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


def test_every_number_that_is_shown_stands_in_the_csv(tmp_path, monkeypatch):
    monkeypatch.setattr(input_pipeline, "RECORDS", {"first": (120, 160), "second": (90, 160)})
    monkeypatch.setattr(input_pipeline, "LATENCY", 0.001)
    monkeypatch.setattr(input_pipeline, "READERS", (1, 0))
    monkeypatch.setattr(other_decoders, "installed", lambda _: None)
    found = list(input_pipeline.measured(32, repeats=1))
    path = epath.Path(tmp_path) / "input.csv"
    tables.write_csv(path, input_pipeline.HEADER, [line for table in found for line in table.lines()])
    rows = {}
    for line in tables.read_csv(path):
        *key, measure, value = line.values()
        rows.setdefault(tuple(key), {})[measure] = float(value)

    stage, decoding, slow = "stage, one core", "decode and resize, one core", "data.readers, 1 ms a request"
    assert [(table.photographs, table.name) for table in found] == [
        *(("first", name) for name in ("photograph", stage, decoding, "threads", slow)),
        *(("second", name) for name in ("photograph", stage, decoding)),
    ]
    for size in ("first", "second"):
        whole, bare = (rows[size, stage, row] for row in ("whole", "decode + resize"))
        own, pillow = (rows[size, decoding, row] for row in ("mdc_jax", "Pillow, bilinear"))
        assert whole["images/s"] * whole["CPU-s per 1,000 images"] == pytest.approx(1000, rel=1e-4)
        assert whole["speed / (decode + resize)"] == pytest.approx(whole["images/s"] / bare["images/s"], rel=1e-4)
        assert pillow["mdc_jax faster by"] == pytest.approx(own["images/s"] / pillow["images/s"], rel=1e-4)
        assert pillow["difference to Pillow"] == 0 and own["mdc_jax faster by"] == 1
    assert rows["first", "threads", "2"]["speed-up"] > 0 and rows["first", slow, "chosen"]["read at once"] >= 1
    # What is not installed is shown as such, and has no line.
    assert found[2].markdown().count("not installed") == 2 and not any("tf.data" in row for _, _, row in rows)
