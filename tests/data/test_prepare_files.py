"""Folders and COCO as records."""

import collections
import itertools
import json
import os
import pathlib

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from mdc_jax.config import sections
from mdc_jax.data import images
from mdc_jax.data.prepare import coco, collection, files, folder, records
from mdc_jax.data.prepare.encode import Encoding
from mdc_jax.data.prepare.manifest import Manifest
from mdc_jax.data.sources import open_source
from mdc_jax.data.sources.base import BadRecord
from mdc_jax.data.sources.folder import read_captions
from tests.data.test_samples import picture, prepare

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="20" height="10"><rect width="9" height="9" fill="red"/></svg>'


def _write(root, name, data):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(data)


def _all(out):
    for split in Manifest.read(out).splits():
        source = open_source(f"array_record:{out}:{split}")
        yield from (source[index] for index in range(len(source)))


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.setattr(collection, "MIN_IN_FOLDER", 8)
    monkeypatch.setattr(files, "SHARD_SIZE", 9)
    root = tmp_path / "photos"
    for number in range(30):
        _write(root, f"{'cat' if number % 2 else 'dog'}/{number}.jpg", picture(shade=number))
    _write(root, "cat/drawing.svg", SVG.encode())
    _write(root, "dog/broken.png", b"\x89PNG")
    return root


def _prepare(root, out, columns=("caption",), encoding=None):
    found = folder.read(root, columns)
    dropped = {reason: len(names) for reason, names in found.dropped.items()}
    manifest = Manifest("test", "", "", found.families, {}, dropped)
    return records.write_all(out, manifest, found.plans(encoding or Encoding()))


def test_a_folder_keeps_bytes_captions_and_labels(photos, tmp_path):
    for path in photos.rglob("*.*"):
        path.with_suffix(".txt").write_text(f"A picture, {path.stem}.\n\nThe same: {path.stem}!\n")
    _write(photos, "dog/1000.jpg", picture())
    _write(photos, "dog/1001.jpg", picture())
    (photos / "dog/1001.txt").write_bytes(b"\xff")
    manifest = _prepare(photos, tmp_path / "out")
    assert manifest.all_dropped() == {"captions not UTF-8": 1, "no caption": 1, "unknown format": 1}
    assert set(manifest.counts()) <= {"train", "validation", "test"}
    assert sum(manifest.counts().values()) == 31
    assert manifest.families["folder"].names == ("cat", "dog")
    found = {record.captions[0]: record for record in _all(tmp_path / "out")}
    record = found["A picture, 7."]
    assert record.captions == ("A picture, 7.", "The same: 7!")
    assert record.image == picture(shade=7)
    assert record.labels["folder"] == 0
    assert images.decode(found["A picture, drawing."].image).shape[0] == collection.SETTINGS["short_side"]


def test_a_caption_of_many_images_does_not_hold_them_together(photos, capsys):
    for path in photos.rglob("*.*"):
        path.with_suffix(".txt").write_text(f"A photo of a {path.parent.name}.\n{path.stem} of many\n")
    (photos / "dog/drawing.jpg").write_bytes(picture())
    (photos / "dog/drawing.txt").write_text("A photo of a dog.\nDrawing of many!")
    found = folder.read(photos)
    assert found.common == ["a photo of a cat", "a photo of a dog"]
    sizes = {split: len(entries) for split, entries in found.splits.items()}
    assert sum(sizes.values()) == 33 and min(sizes.values()) > 0 and sizes["train"] > 16
    # Two images of a title, one in each folder, still are.
    sides = [split for split, entries in found.splits.items() for entry in entries if entry.path.stem == "drawing"]
    assert len(sides) == 2 and len(set(sides)) == 1


def test_a_folder_of_which_nothing_comes_to_training_is_refused(tmp_path):
    captions = (f"caption {number}" for number in itertools.count())
    held_out = next(text for text in captions if collection.side_of(("title", text)) == "test")
    for number in range(3):
        _write(tmp_path, f"{number}.jpg", picture(shade=number))
        (tmp_path / f"{number}.txt").write_text(held_out)
    with pytest.raises(ValueError, match="of its 3 image\\(s\\) none came to the training split"):
        folder.read(tmp_path)


def test_tables_by_other_names_are_named(tmp_path):
    _write(tmp_path, "1.jpg", picture())
    _write(tmp_path, "metadata.jsonl", b"{}")
    with pytest.raises(
        FileNotFoundError, match=r"1 x no caption, as 1\.jpg\); it has metadata\.jsonl, and captions\.csv,"
    ):
        folder.read(tmp_path)
    _write(tmp_path, "1.TXT", b"a caption")
    assert [len(entries) for entries in folder.read(tmp_path).splits.values()].count(1) == 1


def test_names_that_are_no_utf_8_are_spelled(photos, tmp_path):
    """As those of archives from systems with other alphabets."""
    for number in range(10):
        path = os.fsencode(photos) + b"/caf\xe9/%d\xe8.jpg" % number
        os.makedirs(os.path.dirname(path), exist_ok=True)
        pathlib.Path(os.fsdecode(path)).write_bytes(picture(shade=100 + number))
    for path in photos.rglob("*.jpg"):
        path.with_suffix(".txt").write_text(f"picture {os.fsencode(path.stem)}")
    (photos / os.fsdecode(b"caf\xe9/9\xe8.txt")).unlink()
    found = folder.read(photos)
    assert found.dropped["no caption"] == [r"caf\xe9/9\xe8.jpg", "cat/drawing.svg", "dog/broken.png"]
    manifest = _prepare(photos, tmp_path / "out")
    assert manifest.families["folder"].names == (r"caf\xe9", "cat", "dog")
    assert manifest.all_dropped() == {"no caption": 3}
    assert sum(record.labels["folder"] == 0 for record in _all(tmp_path / "out")) == 9

    source = open_source(f"folder:{photos}")
    assert source.families["folder"].names == (r"caf\xe9", "cat", "dog")
    assert source[0].labels["folder"] == 0
    unread = collection.Picture(photos, "caf\udce9.png", ("a caption",), ("concept",))  # of a source without spelling
    assert sum(map(len, collection.split_by_concept([unread]).values())) == 1


def test_what_is_left_out_is_named_with_its_folder(photos, tmp_path):
    for path in photos.rglob("*.*"):
        path.with_suffix(".txt").write_text(path.stem)
    (photos / "dog/4.txt").unlink()
    (photos / "cat/5.jpg").write_bytes(b"damaged")
    assert folder.read(photos).dropped == {"no caption": ["dog/4.jpg"]}
    named = [shard.named for shard in _prepare(photos, tmp_path / "out").shards.values() if shard.named]
    assert sorted(name for by_reason in named for names in by_reason.values() for name in names) == [
        "cat/5.jpg",
        "dog/broken.png",
    ]


def test_images_that_cannot_be_read_are_counted_not_lost(tmp_path):
    """Formats that are not read, pipes, and files that would not fit in memory, in both ways to read a folder."""
    root = tmp_path / "photos"
    reasons = {
        "b.heic": "unknown format",
        "c.avif": "unknown format",
        "d.jpg": "no regular file",
        "e.jpg": "huge image",
    }
    for name in ("a.jfif", "b.heic", "c.avif"):
        _write(root, name, picture() if name == "a.jfif" else b"\0\0\0\x18ftyp")
    os.mkfifo(root / "d.jpg")
    with (root / "e.jpg").open("wb") as file:
        file.truncate(images.MAX_BYTES + 1)
    for name in ("a", *reasons):
        (root / name).with_suffix(".txt").write_text(f"picture {name}")
    manifest = _prepare(root, tmp_path / "out")
    assert manifest.all_dropped() == dict(collections.Counter(reasons.values()))
    assert sum(manifest.counts().values()) == 1
    source = open_source(f"folder:{root}")
    assert source[0].image == picture()
    for index, reason in enumerate(reasons.values(), 1):
        with pytest.raises(BadRecord, match=reason):
            images.prepare(source[index].image, sections.Image(size=8))


def test_files_that_a_table_names_and_that_are_not_there_are_dropped(photos, tmp_path):
    names = [*(f"{'cat' if number % 2 else 'dog'}/{number}.jpg" for number in range(30)), "cat/drawing.svg"]
    rows = [f"{name},{number} of all,{number}" for number, name in enumerate([*names, "cat/gone.jpg", "dog/gone.svg"])]
    (photos / "captions.csv").write_text("\n".join(["file,caption,alt", *rows, "dog/broken.png,broken,broken"]))
    for columns in (("caption",), ("caption", "alt")):
        assert folder.read(photos, columns).dropped == {"no image file": ["cat/gone.jpg", "dog/gone.svg"]}
    manifest = _prepare(photos, tmp_path / "out")
    assert manifest.all_dropped() == {"no image file": 2, "unknown format": 1}
    assert sum(manifest.counts().values()) == 31


def test_equal_captions_are_on_one_side(photos, tmp_path):
    for path in photos.rglob("*.jpg"):
        path.with_suffix(".txt").write_text(f"one of {int(path.stem) % 5}")
    _prepare(photos, tmp_path / "out")
    sides = {}
    for split in Manifest.read(tmp_path / "out").splits():
        source = open_source(f"array_record:{tmp_path / 'out'}:{split}")
        for index in range(len(source)):
            sides.setdefault(source[index].captions, set()).add(split)
    assert len(sides) == 5
    assert all(len(splits) == 1 for splits in sides.values())


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_tables_may_have_several_columns(photos, tmp_path, kind):
    rows = [{"file": f"cat/{n}.jpg", "caption": f"cat {n}", "alt": f"alt {n}" if n > 5 else ""} for n in (1, 3, 5, 7)]
    rows.append({"file": "cat/1.jpg", "caption": "again", "alt": "more"})
    table = photos / f"captions.{kind}"
    if kind == "csv":
        table.write_text("caption,alt,file\n" + "".join(f"{r['caption']},{r['alt']},{r['file']}\n" for r in rows))
    elif kind == "jsonl":
        table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), table)
    assert _prepare(photos, tmp_path / "one").all_dropped()["no caption"] == 28
    assert all(not record.columns for record in _all(tmp_path / "one"))

    _prepare(photos, tmp_path / "two", ("caption", "alt"))
    columns = {record.captions[0]: record.columns for record in _all(tmp_path / "two")}
    assert columns == {
        "cat 1": {"caption": ("cat 1", "again"), "alt": ("more",)},
        "cat 3": {"caption": ("cat 3",), "alt": ()},
        "cat 5": {"caption": ("cat 5",), "alt": ()},
        "cat 7": {"caption": ("cat 7",), "alt": ("alt 7",)},
    }
    with pytest.raises(ValueError, match=r"no table of captions with file and title: (its columns are|line 1 is)"):
        folder.read(photos, ("title",))


def test_columns_need_a_table(photos):
    with pytest.raises(ValueError, match=r"no table of captions, and so no column alt; add captions\.csv"):
        read_captions(photos, [], "alt")


def test_a_changed_file_is_written_again(photos, tmp_path):
    for path in photos.rglob("*.jpg"):
        path.with_suffix(".txt").write_text(path.stem)
    first = _prepare(photos, tmp_path / "out")
    _write(photos, "dog/4.jpg", picture(shade=200))
    second = _prepare(photos, tmp_path / "out")
    assert sum(first.shards[name] != second.shards[name] for name in first.shards) == 1
    assert picture(shade=200) in [record.image for record in _all(tmp_path / "out")]


COCO = {
    "images": [
        {"id": 9, "file_name": "9.jpg", "license": 4, "width": 40},
        {"id": 3, "file_name": "sub/3.jpg"},
        {"id": 5, "file_name": "missing.jpg"},
        {"id": 6, "file_name": "6.jpg"},
        {"id": 7, "file_name": "7.jpg"},
    ],
    "annotations": [
        {"id": 30, "image_id": 9, "caption": "third"},
        {"id": 10, "image_id": 9, "caption": " first\n"},
        {"id": 20, "image_id": 9, "caption": ""},
        {"id": 40, "image_id": 3, "caption": "three"},
        {"id": 50, "image_id": 5, "caption": "five"},
        {"id": 60, "image_id": 6, "caption": " "},
        {"id": 70, "image_id": 1000, "caption": "of an image that is not listed"},
    ],
    "licenses": [{"id": 4, "name": "Attribution License", "url": "u"}],
}


def test_a_caption_of_half_characters_is_named(tmp_path):
    _write(tmp_path / "images", "1.jpg", picture())
    content = {
        "images": [{"id": 1, "file_name": "1.jpg"}],
        "annotations": [{"id": 1, "image_id": 1, "caption": "a \ud83d"}],
    }
    (tmp_path / "captions.json").write_text(json.dumps(content))
    entries, _ = coco.read(tmp_path / "captions.json", tmp_path / "images")
    with pytest.raises(records.TooManyDropped, match=r"1 x text not UTF-8, as 1\.jpg"):
        prepare(tmp_path / "out", *files.plans("train", entries, Encoding()))


def test_coco_keeps_all_captions_of_an_image(tmp_path):
    for name in ("9.jpg", "sub/3.jpg", "6.jpg", "7.jpg"):
        _write(tmp_path / "images", name, picture())
    (tmp_path / "captions.json").write_text(json.dumps(COCO))
    entries, others = coco.read(tmp_path / "captions.json", tmp_path / "images")
    assert others == 1
    manifest = prepare(tmp_path / "out", *files.plans("train", entries, Encoding()))
    assert manifest.all_dropped() == {"empty caption": 1, "no caption": 1, "no image file": 1}
    source = open_source(f"array_record:{tmp_path / 'out'}")
    assert [source[index].captions for index in range(len(source))] == [("three",), ("first", "third")]
    assert [source[index].published_id for index in range(len(source))] == [3, 9]
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "train-00000-of-00001.lengths.npy"), [[1], [1]])
    about = entries[-1].about
    assert about == {"file": "9.jpg", "id": 9, "licence": "Attribution License"}


def test_names_in_coco_that_are_no_image_cost_no_others(tmp_path):
    _write(tmp_path / "images", "1.jpg", picture())
    names = ["1.jpg", ".", "a" * 5000 + ".jpg", "1.jpg/a.jpg"]
    content = {
        "images": [{"id": number, "file_name": name} for number, name in enumerate(names)],
        "annotations": [{"id": number, "image_id": number, "caption": "a"} for number in range(len(names))],
        "licenses": None,
    }
    (tmp_path / "captions.json").write_text(json.dumps(content))
    entries, _ = coco.read(tmp_path / "captions.json", tmp_path / "images")
    manifest = prepare(tmp_path / "out", *files.plans("train", entries, Encoding()))
    assert manifest.all_dropped() == {"no image file": 2, "no regular file": 1}
    assert manifest.counts() == {"train": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "no file of COCO captions"),
        ("[]", "no file of COCO captions"),
        ('{"images": [{"id": 1}], "annotations": []}', "file_name"),
        ('{"images": [{"id": 1, "file_name": "../../etc/passwd"}], "annotations": []}', "lies outside"),
        ('{"images": [{"id": 1, "file_name": "/etc/passwd"}], "annotations": []}', "lies outside"),
        ('{"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}], "annotations": []}', "the same id"),
        ('{"images": [{"id": 7, "file_name": "a\\u0000.jpg"}], "annotations": []}', "no file can be called .*image 7"),
        ('{"images": [{"id": 7, "file_name": "\\ud800.jpg"}], "annotations": []}', "no file can be called .*image 7"),
        ('{"images": [], "annotations": [{"id": 1, "image_id": 4, "caption": "x"}]}', "names no images"),
        ('{"images": [{"id": 1, "file_name": "a"}], "annotations": [{"id": 1, "image_id": 1, "caption": 3}]}', "text"),
    ],
)
def test_other_json_is_explained(tmp_path, content, message):
    (tmp_path / "captions.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        coco.read(tmp_path / "captions.json", tmp_path)
