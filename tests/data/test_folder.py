"""A plain folder: where captions come from, labels, what is wrong and said."""

import json

import numpy as np
import PIL.Image
import pytest

from mdc_jax.data.sources import open_source
from mdc_jax.data.sources.base import BadRecord
from mdc_jax.data.sources.folder import image_files

FILES = ("cats/one.png", "cats/two.JPG", "dogs/deep/three.webp", "four.png")


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "photos"
    for number, name in enumerate(FILES):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGB", (8, 6), (number * 20, 0, 0)).save(root / name)
    return root


def _captions(root):
    source = open_source(f"folder:{root}")
    return [source[index].captions for index in range(len(source))]


def test_sidecar_captions_labels_and_bytes(root):
    (root / "cats/one.txt").write_text("\ufeffA cat.\r\n\r\n  Another line. \n")
    (root / "dogs/deep/three.txt").write_bytes("Ein Dackel auf der Straße".encode())
    source = open_source(f"folder:{root}")
    assert [source[index].captions for index in range(4)] == [
        ("A cat.", "Another line."),
        (),
        ("Ein Dackel auf der Straße",),
        (),
    ]
    assert source.families["folder"].names == ("cats", "dogs")
    assert [int(source[index].labels["folder"]) for index in range(4)] == [0, 0, 1, -1]
    assert source[1].image == (root / "cats/two.JPG").read_bytes()
    for index in (-1, 4):
        with pytest.raises(IndexError, match=f"has 4 records, no {index}"):
            source[index]


def test_a_flat_folder_has_no_labels(root):
    source = open_source(f"folder:{root}/cats")
    assert len(source) == 2
    assert source.families == {}
    assert source[0].labels == {}


def test_a_link_to_nowhere_is_a_bad_record(root):
    (root / "cats/three.png").symlink_to(root / "gone.png")
    source = open_source(f"folder:{root}")
    with pytest.raises(BadRecord, match="no image file"):
        source[1]
    assert source[0].image and source[2].image


def test_links_to_folders_are_followed_but_not_around(root, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "deep").mkdir(parents=True)
    (elsewhere / "deep" / "bird.png").write_bytes((root / "four.png").read_bytes())
    (elsewhere / "deep" / "bird.txt").write_text("a bird")
    (elsewhere / "back").symlink_to(elsewhere)
    (root / "birds").symlink_to(elsewhere)
    (root / "cats" / "up").symlink_to(root)
    source = open_source(f"folder:{root}")
    files = [str(file) for file in image_files(root)]
    assert files == ["birds/deep/bird.png", *FILES]
    assert source.families["folder"].names == ("birds", "cats", "dogs")
    assert source[0].captions == ("a bird",)
    link = tmp_path / "link"
    link.symlink_to(root)
    assert [str(file) for file in image_files(link)] == files
    (root / "round").symlink_to(root / "round")
    assert [str(file) for file in image_files(root, links=False)] == [*FILES]


def test_what_macos_adds_to_archives_is_no_image(root):
    (root / "__MACOSX" / "cats").mkdir(parents=True)
    for name in ("__MACOSX/cats/._one.png", "__MACOSX/one.png", "cats/._one.png", "._four.png"):
        (root / name).write_bytes(b"\x00\x05\x16\x07")
    source = open_source(f"folder:{root}")
    assert [str(file) for file in image_files(root)] == [*FILES]
    assert source.families["folder"].names == ("cats", "dogs")


def test_csv_captions(root):
    rows = 'caption,file,more\n"A cat, asleep",cats/one.png,1\nA cat,cats/one.png,2\n,four.png,3\n'
    (root / "captions.csv").write_text(rows)
    assert _captions(root) == [("A cat, asleep", "A cat"), (), (), ("",)]


def test_a_file_that_a_table_names_and_that_is_not_there_keeps_its_place(root):
    rows = "file,caption\nfour.png,a dog\ncats/gone.png,a cat\nbirds/gone.png,\ncats/gone.png,more\n"
    (root / "captions.csv").write_text(rows)
    (root / "cats/._one.png").write_bytes(b"of macOS")
    with (root / "captions.csv").open("a") as table:
        table.write("cats/._one.png,a cat\n")
    source = open_source(f"folder:{root}")
    assert len(source) == len(FILES) + 3
    assert source.families["folder"].names == ("cats", "dogs")
    for index in (0, 1, 2):  # birds/gone.png, cats/._one.png, cats/gone.png
        with pytest.raises(BadRecord, match="no image file"):
            source[index]
    assert source.captions(2) == ("a cat", "more")
    assert source[6].captions == ("a dog",)

    PIL.Image.new("RGB", (8, 6)).save(root / "cats/gone.png")
    back = open_source(f"folder:{root}")
    assert len(back) == len(source) and back.fingerprint != source.fingerprint
    assert back[2].captions == ("a cat", "more") and back[6] == source[6]


def test_jsonl_captions(root):
    (root / "captions.jsonl").write_text('{"file": "four.png", "caption": "ein großer Hund"}\n\n')
    assert _captions(root) == [(), (), (), ("ein großer Hund",)]
    (root / "captions.jsonl").write_text('{"file": "four.png", "caption": null}\n')
    assert _captions(root) == [(), (), (), ("",)]
    line = json.dumps({"file": "four.png", "caption": "two\u2028lines"}, ensure_ascii=False)
    (root / "captions.jsonl").write_text(f"{line}\r\n{line}\n")
    assert _captions(root) == [(), (), (), ("two\u2028lines",) * 2]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("captions.csv", b"name,text\na,b\n", "its columns are"),
        ("captions.csv", b"", "it is empty"),
        ("captions.csv", b"\nfile,caption\na.jpg,b\n", "its first line is empty"),
        ("captions.csv", b"file,caption,caption\nfour.png,a,b\n", "its columns are .*: it needs each .* once"),
        ("captions.csv", b"caption,file\na\n", "line 2 names no file"),
        ("captions.csv", b"file,caption\na.jpg,caf\xe9\n", "save it as UTF-8"),
        ("captions.csv", b"file,caption\na,no suffix\n", "is no image.s name; these end in"),
        ("captions.csv", b"file,caption\ncats/none.svg,x\n", "names cats/none.svg, which is no image's name"),
        ("captions.csv", b"file,caption\n/cats/none.png,x\n", "names /cats/none.png, which is not below"),
        ("captions.csv", b"file,caption\n../photos/four.png,x\n", "which is not below"),
        ("captions.csv", b"file,caption\nfour.png,\xff\xfe\n", "no table of captions"),
        (
            "captions.csv",
            b"file,caption\nfour.png,a cat, asleep\n",
            "line 2 has more than 2 fields: put captions in",
        ),
        (
            "captions.csv",
            b'file,caption\nfour.png,"a cat\n',
            "behind line 1: unexpected end of data: close every",
        ),
        (
            "captions.csv",
            b"file,caption\nnotes.txt,x\n",
            "notes.txt, which is there, but is not read as",
        ),
        (
            "captions.csv",
            b"caption,file\nfour.png," + b"a long caption " * 30,
            r"names a long .{1,200}, which is no image's name",
        ),
        ("captions.csv", b"file,caption\nfour\0.png,x\n", "which is not below"),
        ("captions.jsonl", rb'{"file": "\ud800.png", "caption": "x"}', "which is not below"),
        ("captions.jsonl", b'{"file": "four.png"}', "line 1 is"),
        ("captions.jsonl", b'{"file": "four.png", "caption": ["x", "y"]}', "a line for each of several captions"),
        ("captions.jsonl", b'{"file": "four.png", "caption": "x"}\n\n{"file": "four', "line 3 is no JSON.*four"),
        ("captions.jsonl", b"[" * 100_000, "line 1 is no JSON"),
        ("captions.jsonl", b"[", "no table of captions"),
    ],
)
def test_bad_tables_are_explained(root, name, content, message):
    (root / "notes.txt").touch()
    (root / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        open_source(f"folder:{root}")


def test_a_sidecar_that_is_no_text_is_a_bad_record(root):
    (root / "four.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(BadRecord, match="not UTF-8"):
        open_source(f"folder:{root}")[3]


def test_the_fingerprint_changes_with_the_data(root):
    first = open_source(f"folder:{root}").fingerprint
    assert open_source(f"folder:{root}").fingerprint == first
    (root / "four.txt").write_text("a caption")
    assert open_source(f"folder:{root}").fingerprint != first


def test_missing_folders_and_files(root):
    with pytest.raises(ValueError, match="name the folder"):
        open_source("folder:")
    with pytest.raises(ValueError, match="no folder"):
        open_source(f"folder:{root}/birds")
    (root / "empty").mkdir()
    with pytest.raises(ValueError, match="has no images"):
        open_source(f"folder:{root}/empty")
    source = open_source(f"folder:{root}")
    (root / "four.png").unlink()
    with pytest.raises(OSError, match=r"four\.png"):
        source[3]
    assert isinstance(source[0].labels["folder"], np.int32)
