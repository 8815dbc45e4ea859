"""The converters as a user meets them: a command each, and what it says when something is wrong."""

import hashlib
import json

import pyarrow
import pyarrow.parquet
import pytest

from mdc_jax.data.prepare.manifest import Manifest
from mdc_jax.data.sources import open_source
from tests import commands
from tests.data.test_samples import picture, sample, write_tar


def _run(command, *arguments):
    return commands.run(f"mdc_jax.data.prepare.{command}", *arguments)


def test_webdataset(tmp_path):
    (tmp_path / "tars").mkdir()
    for number in range(3):
        write_tar(tmp_path / "tars" / f"{number:05d}.tar", [sample(f"{number}{k}", alt="other") for k in range(30)])
    write_tar(tmp_path / "tars" / "00003.tar", [sample("30"), sample("31", " ")])
    out = tmp_path / "out"
    arguments = (f"--from={tmp_path}/tars", f"--out={out}", "--columns=caption,alt", "--licence=CC0", "--workers=2")
    done = _run("webdataset", *arguments)
    assert done.returncode == 0, done.stderr
    assert f"array_record:{out}:train" in done.stdout
    assert "empty caption" in done.stdout
    assert "dropped 00003.tar 31: empty caption" in done.stderr
    assert "B/s" in done.stderr
    manifest = Manifest.read(out)
    assert (manifest.licence, manifest.counts()) == ("CC0", {"train": 91})
    assert open_source(f"array_record:{out}")[0].columns["alt"] == ("other",)

    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.glob("*.arrayrecord")}
    assert _run("webdataset", *arguments).returncode == 0
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.glob("*.arrayrecord")} == before


def test_webdataset_says_what_is_wrong(tmp_path):
    write_tar(tmp_path / "0.tar", [sample("a", ""), sample("b")])
    (tmp_path / "more").mkdir()
    write_tar(tmp_path / "more" / "0.tar", [sample("a")])
    (tmp_path / "above" / "below").mkdir(parents=True)
    write_tar(tmp_path / "above" / "below" / "0.tar", [sample("a")])
    (tmp_path / "cut").mkdir()
    whole = write_tar(tmp_path / "cut" / "0.tar", [sample(f"{number}") for number in range(30)]).read_bytes()
    (tmp_path / "cut" / "1.tar").write_bytes(whole[: len(whole) // 2])  # of 45 examples 1 fault is below the limit
    halves = [("a", {"jpg": picture()}), ("b", {"jpg": picture()}), ("a", {"txt": b"a"}), ("b", {"txt": b"b"})]
    write_tar(tmp_path / "apart.tar", halves)
    for arguments, message in (
        (
            [f"--from={tmp_path}/none"],
            "none: no .tar file is there; name files (unpacked where they end in .gz), globs, or the folders",
        ),
        ([f"--from={tmp_path}/above"], f"or the folders that they lie in, as {tmp_path}/above/below"),
        ([f"--from={tmp_path},{tmp_path}/more"], "2 inputs would give"),
        ([f"--from={tmp_path}/0.tar", "--workers=1"], "1 of 2 examples cannot be used (1 x empty caption, as 0.tar a)"),
        ([f"--from={tmp_path}/0.tar", f"--tokenizer={tmp_path}/model"], f"--tokenizer={tmp_path}/model: "),
        ([f"--from={tmp_path}/apart.tar", f"--out={tmp_path}/apart"], "The files of one key must be neighbours"),
        ([f"--from={tmp_path}/0.tar", "--columns="], "--columns is empty"),
        (
            [f"--from={tmp_path}/0.tar", "--columns=nosuch", "--workers=1"],
            "2 of 2 examples cannot be used (2 x no field nosuch in KEY.json, as 0.tar a)",
        ),
        ([f"--from={tmp_path}/0.tar", "--columns=nosuch", "--workers=1"], "Check --columns: every example needs"),
        ([f"--from={tmp_path}/0.tar", "--out=gs://bucket/a"], "error: --out=gs://bucket/a: shards are written to"),
        ([f"--from={tmp_path}/cut", f"--out={tmp_path}/cut_out"], "1 of 2 inputs cannot be read to their end (1 x tar"),
        ([f"--from={tmp_path}/0.tar", "--split=../evil"], '--split="../evil": give a name of letters'),
        ([f"--from={tmp_path}/0.tar", "--max_bad_share=nan"], "--max_bad_share=nan: give a share"),
        ([f"--from={tmp_path}/0.tar", f"--out={tmp_path}/0.tar"], "0.tar: this is a file; name a folder"),
        ([f"--from={tmp_path}/0.tar", "--split=test"], "holds what this run does not write, as train-0.arrayrecord"),
        (["--from="], "--from=: a name is empty"),
    ):
        done = _run("webdataset", f"--out={tmp_path}/out", *arguments)
        assert done.returncode == 1
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_recap(tmp_path):
    jpeg = picture()
    write_tar(tmp_path / "0.tar", [sample("1", "alt", jpeg, sha256="noted")])
    rows = [{"key": "1", "url": "u", "re_caption": "long", "org_caption": "alt", "sha256": "noted"}]
    (tmp_path / "captions").mkdir()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "captions" / "0.parquet")
    arguments = (f"--from={tmp_path}/*.tar", f"--captions={tmp_path}/captions", f"--out={tmp_path}/out", "--workers=1")
    done = _run("recap", *arguments)
    assert done.returncode == 1
    assert "1 x sha256 differs" in done.stderr
    assert "--verify=download" in done.stderr
    assert "Traceback" not in done.stderr
    done = _run("recap", *arguments, "--verify=download")
    assert done.returncode == 0, done.stderr
    assert open_source(f"array_record:{tmp_path}/out")[0].columns == {"re_caption": ("long",), "org_caption": ("alt",)}


@pytest.mark.parametrize("command", ["folder", "coco"])
def test_files(tmp_path, command):
    root = tmp_path / "photos"
    root.mkdir()
    images = [picture(300, 400, shade=20 * n) for n in range(12)]
    for number, image in enumerate(images):
        (root / f"{number}.jpg").write_bytes(image)
        (root / f"{number}.txt").write_text(f"caption {number}")
    content = {
        "images": [{"id": n, "file_name": f"{n}.jpg"} for n in range(12)],
        "annotations": [{"id": n, "image_id": n, "caption": f"caption {n}"} for n in range(12)],
    }
    (tmp_path / "captions.json").write_text(json.dumps(content))
    more = [f"--annotations={tmp_path}/captions.json"] if command == "coco" else []
    done = _run(command, f"--from={root}", f"--out={tmp_path}/out", "--short_side=100", "--workers=1", *more)
    assert done.returncode == 0, done.stderr
    manifest = Manifest.read(tmp_path / "out")
    assert sum(manifest.counts().values()) == 12
    assert manifest.settings["short_side"] == 100
    stored = {
        hashlib.sha256(record.image).hexdigest()
        for split in manifest.splits()
        for source in [open_source(f"array_record:{tmp_path}/out:{split}")]
        for record in (source[index] for index in range(len(source)))
    }
    assert len(stored) == 12
    assert not stored & {hashlib.sha256(image).hexdigest() for image in images}
    if command == "folder":
        (root / "0.txt").unlink()
        (root / "0.jpg").rename(root / "0\x1b.jpg")
        arguments = (f"--from={root}", f"--out={tmp_path}/out", "--max_bad_share=0", "--workers=1")
        refused = _run(command, *arguments)
        assert "was made from other data" in refused.stderr and "with --replace" in refused.stderr
        assert Manifest.read(tmp_path / "out") == manifest
        done = _run(command, *arguments, "--replace")
        assert r"dropped 0\x1b.jpg: no caption" in done.stderr
        assert " examples cannot be used (1 x no caption, as 0\\x1b.jpg)" in done.stderr
    done = _run(command, f"--from={root}/none", f"--out={tmp_path}/out", *more)
    assert "there is no such folder" in done.stderr and "Traceback" not in done.stderr
