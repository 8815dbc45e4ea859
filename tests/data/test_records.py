"""Prepared data: the entry's layout, shards that are whole or not there, repetition to the byte."""

import hashlib
import json

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordReader
from hypothesis import given, settings
from hypothesis import strategies as st

from mdc_jax.config import ConfigError, sections
from mdc_jax.data import retries
from mdc_jax.data.captions import make_tokenizer
from mdc_jax.data.prepare import records
from mdc_jax.data.prepare.example import Example
from mdc_jax.data.prepare.manifest import Manifest
from mdc_jax.data.sources import open_source
from mdc_jax.data.sources.base import BadRecord, Family

FAMILIES = {"kind": Family("class", ("a", "b")), "parts": Family("presence", ("x", "y", "z"), bound=True)}


def _example(index):
    labels = {"kind": index % 3 - 1, "parts": [index & 1, index >> 1 & 1, 1]}
    return Example(b"image %d" % index, (f"caption {index}", "é"), labels, {"file": f"{index}.jpg"})


def _manifest():
    return Manifest("test", "CC0", "nobody", FAMILIES, {"short_side": 4}, {"no caption": 2})


def _plans(counts, calls=None, fail_at=None):
    plans = []
    for number, (split, count) in enumerate(counts):

        def examples(number=number, count=count):
            if calls is not None:
                calls.append(number)
            for index in range(count):
                if (number, index) == fail_at:
                    raise KeyboardInterrupt
                yield _example(index) if index != 1 else BadRecord("damaged JPEG")

        plans.append(records.ShardPlan(f"{split}-{number}.arrayrecord", split, f"inputs {count}", count, examples))
    return plans


COUNTS = [("train", 30), ("train", 20), ("test", 10)]


def _bytes(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@settings(deadline=None)
@given(
    image=st.binary(max_size=50),
    captions=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=4),
)
def test_an_entry_round_trips(image, captions):
    example = Example(image, tuple(captions), {"kind": 1}, {"file": "x"})
    assert Example.unpack(example.pack()) == example


def test_the_layout_is_the_documented_one():
    entry = _example(3).pack()
    length = int.from_bytes(entry[4:8], "little")
    assert entry[:4] == b"MDC1"
    assert json.loads(entry[8 : 8 + length])["captions"] == ["caption 3", "é"]
    assert entry[8 + length :] == b"image 3"


@settings(deadline=None)
@given(data=st.data())
def test_damaged_entries_are_bad_records_or_other_examples(data):
    entry = bytearray(_example(2).pack())
    start = data.draw(st.integers(0, len(entry)))
    entry[start : start + data.draw(st.integers(0, 30))] = data.draw(st.binary(max_size=30))
    try:
        record = Example.unpack(bytes(entry)).record(FAMILIES)
    except BadRecord as fault:
        assert fault.reason in ("damaged entry", "damaged labels")
    else:
        assert all(isinstance(caption, str) for caption in record.captions)
        assert record.labels["kind"] in (-1, 0, 1)
        assert record.labels["parts"].shape == (3,)


@pytest.mark.parametrize("labels", [{}, {"kind": 2, "parts": [0, 0, 0]}, {"kind": 0, "parts": [1]}, {"kind": "a"}])
def test_labels_that_do_not_fit_are_damage(labels):
    with pytest.raises(BadRecord, match="damaged labels"):
        Example(b"", (), labels).record(FAMILIES)


def test_a_prepared_folder_can_be_read(tmp_path):
    written = records.write_all(tmp_path, _manifest(), _plans(COUNTS))
    assert written.counts() == {"test": 9, "train": 48}
    assert written.all_dropped() == {"damaged JPEG": 3, "no caption": 2}
    assert written.complete
    for name, shard in written.shards.items():
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == shard.sha256
        assert ArrayRecordReader(str(tmp_path / name)).writer_options_string().startswith("group_size:1,")

    for spec in (
        f"array_record:{tmp_path}:train",
        f"pictures:{tmp_path}:train",
        f"array_record:{tmp_path}/train-*.arrayrecord",
    ):
        source = open_source(spec)
        assert len(source) == 48
        assert source.families == FAMILIES
        record = source[29 + 4]
        assert record.image == b"image 5"
        assert record.captions == ("caption 5", "é")
        assert record.labels["kind"] == 1
        np.testing.assert_array_equal(record.labels["parts"], [1, 0, 1])
    with pytest.raises(IndexError):
        source[48]
    with pytest.raises(ConfigError, match=r"no file matches .*/none-\*"):
        open_source(f"array_record:{tmp_path}/train-*.arrayrecord,{tmp_path}/none-*.arrayrecord")
    with pytest.raises(ConfigError, match="match the same shards"):
        open_source(f"array_record:{tmp_path}/train-*.arrayrecord,{tmp_path}/train-0.arrayrecord")
    assert open_source(f"pictures:{tmp_path}:test").fingerprint != source.fingerprint


@pytest.mark.parametrize("counts", [(17, 18), (18, 17), (18, 0)])
def test_a_shard_that_has_not_the_records_of_its_manifest_is_said_at_once(tmp_path, monkeypatch, counts):
    monkeypatch.setattr(retries, "_AFTER", (600.0,))
    mine, other = (
        records.write_all(tmp_path / f"{c}", _manifest(), _plans([("train", c), ("train", 9)])) for c in counts
    )
    name = "train-0.arrayrecord"
    assert mine.shards[name].bytes == other.shards[name].bytes  # shards are padded
    (tmp_path / f"{counts[0]}" / name).write_bytes((tmp_path / f"{counts[1]}" / name).read_bytes())
    source = open_source(f"array_record:{tmp_path / str(counts[0])}:train")
    has, says = other.shards[name].records, mine.shards[name].records
    message = f"{name} has {has} records, the manifest.json beside it says {says}: copy both again"
    assert source[says].image == b"image 0"  # of the other shard
    with pytest.raises(ConfigError, match=message):
        source[0]
    with pytest.raises(ConfigError, match=message):
        make_tokenizer(sections.Config(), source)


def test_repetition_gives_the_same_bytes_and_keeps_finished_shards(tmp_path):
    records.write_all(tmp_path / "a", _manifest(), _plans(COUNTS))
    records.write_all(tmp_path / "b", _manifest(), _plans(COUNTS))
    assert _bytes(tmp_path / "a") == _bytes(tmp_path / "b")

    calls = []
    records.write_all(tmp_path / "a", _manifest(), _plans(COUNTS, calls))
    assert calls == []
    assert _bytes(tmp_path / "a") == _bytes(tmp_path / "b")

    damaged = tmp_path / "a" / "train-1.arrayrecord"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    records.write_all(tmp_path / "a", _manifest(), _plans(COUNTS, calls))
    assert calls == [1]
    assert _bytes(tmp_path / "a") == _bytes(tmp_path / "b")


@pytest.mark.parametrize("fail_at", [(0, 7), (1, 0), (2, 9)])
def test_an_interrupted_run_is_refused_and_goes_on(tmp_path, fail_at):
    records.write_all(tmp_path / "whole", _manifest(), _plans(COUNTS))
    with pytest.raises(KeyboardInterrupt):
        records.write_all(tmp_path / "cut", _manifest(), _plans(COUNTS, fail_at=fail_at))
    with pytest.raises(ValueError, match=r"not finished|no prepared data"):
        open_source(f"pictures:{tmp_path / 'cut'}:train")
    calls = []
    records.write_all(tmp_path / "cut", _manifest(), _plans(COUNTS, calls))
    assert calls == list(range(fail_at[0], len(COUNTS)))
    assert _bytes(tmp_path / "cut") == _bytes(tmp_path / "whole")


def test_other_inputs_are_written_again_and_leave_nothing_behind(tmp_path):
    records.write_all(tmp_path / "a", _manifest(), _plans(COUNTS))
    calls = []
    records.write_all(tmp_path / "a", _manifest(), _plans([("train", 30), ("train", 25)], calls))
    assert calls == [1]
    records.write_all(tmp_path / "b", _manifest(), _plans([("train", 30), ("train", 25)]))
    assert _bytes(tmp_path / "a") == _bytes(tmp_path / "b")


def test_a_complete_folder_is_not_replaced_unasked(tmp_path):
    records.write_all(tmp_path, _manifest(), _plans([("train", 3), ("train", 4)]))
    before, known = _bytes(tmp_path), Manifest.read(tmp_path)
    with pytest.raises(records.OtherInputs, match=r"was made from other data .*--replace"):
        records.write_all(tmp_path, _manifest(), _plans([("train", 3), ("train", 5), ("train", 6)]), replace=False)
    assert (_bytes(tmp_path), Manifest.read(tmp_path)) == (before, known)
    more = [("train", 3), ("train", 4), ("train", 6)]
    with pytest.raises(KeyboardInterrupt):
        records.write_all(tmp_path, _manifest(), _plans(more, fail_at=(2, 1)), replace=False)
    assert Manifest.read(tmp_path) == known  # it can be read meanwhile
    added = records.finished(tmp_path)
    with pytest.raises(records.OtherInputs):
        records.write_all(tmp_path, _manifest(), _plans([("train", 9), *more[1:]]), replace=False)
    assert records.finished(tmp_path) == added
    repaired = [*more[:2], ("train", 7)]  # what was not part of the complete folder may be others
    assert records.write_all(tmp_path, _manifest(), _plans(repaired), replace=False).complete
    other = records.write_all(tmp_path, _manifest(), _plans([("train", 3), ("train", 5)]))
    assert other.counts() != known.counts()


def test_damage_within_a_shard_masks_its_records_only(tmp_path):
    records.write_all(tmp_path, _manifest(), _plans([("train", 60)]))
    path = tmp_path / "train-0.arrayrecord"
    content = bytearray(path.read_bytes())
    start = content.index(b"image 30")
    content[start : start + 5] = b"xxxxx"
    path.write_bytes(content)
    source = open_source(f"pictures:{tmp_path}:train")
    faults = []
    for index in range(len(source)):
        try:
            assert source[index].image == b"image %d" % (index + (index > 0))
        except BadRecord as fault:
            faults.append((index, fault.reason))
    assert faults == [(29, "damaged shard")]


def test_a_shard_that_vanishes_is_a_read_error_until_it_is_back(tmp_path):
    records.write_all(tmp_path, _manifest(), _plans([("train", 5)]))
    source = open_source(f"pictures:{tmp_path}:train")
    shard = tmp_path / "train-0.arrayrecord"
    shard.rename(tmp_path / "away")
    for _ in range(2):
        with pytest.raises(OSError, match="train-0"):
            source[0]
    (tmp_path / "away").rename(shard)
    assert source[0].captions[0].startswith("caption")


def test_a_second_run_into_a_folder_is_refused_until_the_first_ends(tmp_path):
    def run(tasks):
        with pytest.raises(ConfigError, match=r"another run is at work in .*process \d+ on .*another --out"):
            records.write_all(tmp_path, _manifest(), _plans(COUNTS))
        yield from records.in_process(tasks)

    first = records.write_all(tmp_path, _manifest(), _plans(COUNTS), run=run)
    assert records.write_all(tmp_path, _manifest(), _plans(COUNTS)) == first
    assert not [path for path in tmp_path.rglob("*") if "lock" in path.name]


def test_a_manifest_without_later_fields_is_read(tmp_path):
    written = records.write_all(tmp_path, _manifest(), _plans(COUNTS))
    path = tmp_path / "manifest.json"
    content = json.loads(path.read_text())
    for name in ("lengths", "parts", "audit"):
        del content[name]
    for shard in content["shards"].values():
        del shard["lengths_sha256"], shard["named"]
    path.write_text(json.dumps(content))
    read = Manifest.read(tmp_path)
    assert read.counts() == written.counts()
    assert (read.lengths, read.parts, read.audit) == ({}, [], {})


def test_wrong_folders_are_explained(tmp_path):
    written = records.write_all(tmp_path / "a", _manifest(), _plans(COUNTS))
    with pytest.raises(ValueError, match="no split 'dev'; name one of test, train"):
        open_source(f"pictures:{tmp_path / 'a'}:dev")
    with pytest.raises(ValueError, match="has several splits; name one of test, train"):
        open_source(f"pictures:{tmp_path / 'a'}")
    with pytest.raises(ValueError, match=r"manifest.json is missing"):
        open_source(f"pictures:{tmp_path}:train")
    with pytest.raises(ValueError, match="no file matches"):
        open_source(f"array_record:{tmp_path}/*.arrayrecord")
    with pytest.raises(ValueError, match=r"t\*-\* matches shards of the splits test, train; name one, as in DIR:test"):
        open_source(f"array_record:{tmp_path / 'a'}/t*-*")
    both = open_source(f"array_record:{tmp_path / 'a'}/train-*,{tmp_path / 'a'}/test-*")
    assert len(both) == sum(written.counts().values())
    shard = tmp_path / "a" / "train-0.arrayrecord"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"train-0.* bytes, it was written with"):
        open_source(f"pictures:{tmp_path / 'a'}:train")
    newer = json.loads((tmp_path / "a" / "manifest.json").read_text()) | {"format_version": 1_000}
    (tmp_path / "a" / "manifest.json").write_text(json.dumps(newer))
    with pytest.raises(ValueError, match=r"format_version 1000, expected .*; update mdc_jax"):
        open_source(f"pictures:{tmp_path / 'a'}:test")
    (tmp_path / "a" / "manifest.json").write_text("[]")
    with pytest.raises(ValueError, match=r"manifest.json is no manifest"):
        open_source(f"pictures:{tmp_path / 'a'}:test")
