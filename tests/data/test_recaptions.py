"""Recap-DataComp's captions are joined onto tars by key, and only where the hash agrees."""

import hashlib
import json

import pyarrow
import pyarrow.parquet
import pytest

from mdc_jax.data.prepare import recaptions, records, samples
from mdc_jax.data.prepare.example import Example
from mdc_jax.data.sources import open_source
from mdc_jax.data.sources.base import BadRecord
from tests.data.test_samples import picture, prepare, sample, write_tar

COUNT = 60


def _key(number):
    return f"{number:09d}"


def _image(number):
    return picture(20 + number, 30)


def _row(number, **change):
    return {
        "url": f"https://example.org/{number}",
        "re_caption": f"a long description of {number}",
        "org_caption": f"alt {number}",
        "sha256": hashlib.sha256(_image(number)).hexdigest(),
        "key": _key(number),
        "re_clip_score": 0.5,
    } | change


def _write(path, rows, **more):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, **more)
    return path


@pytest.fixture
def tars(tmp_path):
    members = [sample(_key(n), "from the web", _image(n), sha256=f"noted {n}") for n in range(COUNT)]
    return [write_tar(tmp_path / f"{part}.tar", members[part * 30 : part * 30 + 30]) for part in range(2)]


def _plans(tars, *paths, verify="image"):
    captions = recaptions.Captions.open(paths)
    return [recaptions.RecapPlan(tar, captions=captions, verify=verify) for tar in tars]


@pytest.mark.parametrize("sort", [True, False])
@pytest.mark.parametrize("statistics", [True, False])
def test_every_pair_is_joined_wherever_its_row_is(tars, tmp_path, sort, statistics, monkeypatch):
    monkeypatch.setattr(samples, "_CHUNK", 7)
    order = list(range(COUNT)) if sort else [n * 17 % COUNT for n in range(COUNT)]
    rows = [_row(number) for number in order]
    rows[3]["sha256"] = rows[3]["sha256"].upper()  # some tools write it like that
    layout = {"row_group_size": 5, "write_statistics": statistics}
    paths = [_write(tmp_path / "0.parquet", rows[:33], **layout), _write(tmp_path / "1.parquet", rows[33:], **layout)]
    manifest = prepare(tmp_path / "out", *_plans(tars, *paths))
    assert manifest.all_dropped() == {}
    source = open_source(f"array_record:{tmp_path / 'out'}:train")
    assert len(source) == COUNT
    for number in range(COUNT):
        record = source[number]
        assert record.image == _image(number)
        assert record.captions == (f"a long description of {number}",)
        assert record.columns == {"re_caption": record.captions, "org_caption": (f"alt {number}",)}


def test_a_nested_column_of_the_same_name_is_no_key(tars, tmp_path):
    rows = [{"meta": {"key": "zzz"}} | _row(number) for number in range(COUNT)]
    plans = _plans(tars, _write(tmp_path / "0.parquet", rows, row_group_size=10))
    assert prepare(tmp_path / "out", *plans).counts() == {"train": COUNT}


def test_few_row_groups_are_read_where_keys_are_sorted(tmp_path):
    path = _write(tmp_path / "0.parquet", [_row(number) for number in range(COUNT)], row_group_size=5)
    captions = recaptions.Captions.open([path])
    content = bytearray(path.read_bytes())
    offset = pyarrow.parquet.read_metadata(path).row_group(6).column(0).dictionary_page_offset
    end = pyarrow.parquet.read_metadata(path).row_group(11).column(5)
    content[offset : end.data_page_offset + 10] = bytes(end.data_page_offset + 10 - offset)
    path.write_bytes(content)
    assert captions.lookup([_key(3), _key(29), "0000000031"]).keys() == {_key(3), _key(29)}
    with pytest.raises(OSError, match=r"0\.parquet cannot be read"):
        captions.lookup([_key(33)])


def test_pairs_without_a_row_or_with_another_hash_are_dropped(tars, tmp_path):
    rows = [_row(n, **({"sha256": "0" * 64} if n in (4, 40) else {})) for n in range(COUNT) if n not in (7, 8, 50)]
    rows[0]["re_caption"], rows[1]["org_caption"] = None, None
    manifest = prepare(tmp_path / "out", *_plans(tars, _write(tmp_path / "0.parquet", rows)))
    assert manifest.all_dropped() == {"empty caption": 1, "key not among the captions": 3, "sha256 differs": 2}
    assert manifest.shards["train-0.arrayrecord"].named["sha256 differs"] == [f"0.tar {_key(4)}"]
    record = open_source(f"array_record:{tmp_path / 'out'}:train")[0]
    assert record.columns["org_caption"] == ()


@pytest.mark.parametrize("verify", ["image", "download"])
def test_a_pair_without_a_hash_is_not_verified(tmp_path, verify):
    tar = write_tar(tmp_path / "0.tar", [sample(_key(n), image=_image(n), sha256=None) for n in range(2)])
    path = _write(tmp_path / "0.parquet", [_row(0), _row(1, sha256=None)])
    kept = {"image": 1, "download": 0}[verify]
    outcomes = list(_plans([tar], path, verify=verify)[0].examples())
    assert [str(bad) for bad in outcomes if isinstance(bad, BadRecord)] == ["no sha256 to compare"] * (2 - kept)


def test_a_note_of_the_hash_that_is_no_text_differs(tmp_path):
    tar = write_tar(tmp_path / "0.tar", [sample(_key(0), image=_image(0), sha256=[5])])
    path = _write(tmp_path / "0.parquet", [_row(0)])
    assert [str(bad) for bad in _plans([tar], path, verify="download")[0].examples()] == ["sha256 differs"]


def test_keys_that_are_numbers_are_refused(tmp_path):
    path = _write(tmp_path / "0.parquet", [_row(n, key=n) for n in range(3)])
    with pytest.raises(ValueError, match=r"0\.parquet: keys are int64; they must be text"):
        recaptions.Captions.open([path])


@pytest.mark.parametrize("name", ["re_caption", "org_caption", "url", "sha256"])
@pytest.mark.parametrize("value", [5, [["a text", "another"]], b"bytes"], ids=["number", "list", "bytes"])
def test_columns_that_are_no_text_are_refused(tmp_path, name, value):
    path = _write(tmp_path / "0.parquet", [_row(n, **{name: value}) for n in range(3)])
    with pytest.raises(ValueError, match=rf"0\.parquet: its column {name} is .*; it must be text"):
        recaptions.Captions.open([path])


def test_texts_in_any_layout_are_texts(tars, tmp_path):
    rows = pyarrow.Table.from_pylist([_row(n, org_caption=None) for n in range(COUNT)])
    large = rows["sha256"].cast(pyarrow.large_string())
    rows = rows.set_column(rows.column_names.index("sha256"), "sha256", large)
    rows = rows.set_column(rows.column_names.index("url"), "url", rows["url"].dictionary_encode())
    pyarrow.parquet.write_table(rows, tmp_path / "0.parquet")
    examples = list(_plans(tars, tmp_path / "0.parquet")[0].examples())
    assert [example.about["url"] for example in examples] == [f"https://example.org/{n}" for n in range(30)]


def test_of_equal_keys_the_first_row_is_taken(tars, tmp_path):
    rows = [_row(n) for n in range(COUNT)] + [_row(5, re_caption="a second row")]
    prepare(tmp_path / "out", *_plans(tars, _write(tmp_path / "0.parquet", rows)))
    assert open_source(f"array_record:{tmp_path / 'out'}:train")[5].captions == ("a long description of 5",)


def test_images_encoded_anew_are_verified_by_the_hash_noted_at_download(tars, tmp_path):
    path = _write(tmp_path / "0.parquet", [_row(n, sha256=f"noted {n}") for n in range(COUNT)])
    with pytest.raises(records.TooManyDropped, match=f"{COUNT} x sha256 differs"):
        prepare(tmp_path / "bytes", *_plans(tars, path))
    manifest = prepare(tmp_path / "noted", *_plans(tars, path, verify="download"))
    assert manifest.all_dropped() == {}


def test_other_captions_make_other_shards(tars, tmp_path):
    path = _write(tmp_path / "0.parquet", [_row(n) for n in range(COUNT)])
    first = prepare(tmp_path / "out", *_plans(tars, path))
    path = _write(tmp_path / "0.parquet", [_row(n, re_caption=f"a LONG description of {n}") for n in range(COUNT)])
    second = prepare(tmp_path / "out", *_plans(tars, path))
    assert first.shards["train-0.arrayrecord"].sha256 != second.shards["train-0.arrayrecord"].sha256
    assert open_source(f"array_record:{tmp_path / 'out'}:train")[0].captions == ("a LONG description of 0",)


def test_wrong_files_are_explained(tmp_path):
    (tmp_path / "0.parquet").write_bytes(b"url,caption\n")
    with pytest.raises(ValueError, match=r"0\.parquet is no parquet file"):
        recaptions.Captions.open([tmp_path / "0.parquet"])
    rows = [{"uid": "1", "url": "u", "text": "t", "sha256": "s"}]
    with pytest.raises(ValueError, match=r"no column key, re_caption, org_caption; it has uid, url, text, sha256"):
        recaptions.Captions.open([_write(tmp_path / "1.parquet", rows)])


def test_the_entry_has_the_agreed_columns(tars, tmp_path):
    path = _write(tmp_path / "0.parquet", [_row(n) for n in range(COUNT)])
    example = next(iter(_plans(tars, path)[0].examples()))
    entry = example.pack()
    header = json.loads(entry[8 : 8 + int.from_bytes(entry[4:8], "little")])
    assert header["captions"] == header["columns"]["re_caption"] == ["a long description of 0"]
    assert header["columns"]["org_caption"] == ["alt 0"]
    assert header["about"]["url"] == "https://example.org/0"
    assert Example.unpack(entry) == example
