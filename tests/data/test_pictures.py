"""`prepare.pictures` on small folders of the real layout."""

import collections
import json
import re
import shutil

import numpy as np
import PIL.Image
import pytest

from mdc_jax.data import images
from mdc_jax.data.prepare import collection, pictures, tuxpaint
from mdc_jax.data.prepare.collection import Picture
from mdc_jax.data.prepare.manifest import Manifest
from mdc_jax.data.sources import open_source
from mdc_jax.data.texts import words
from tests import commands

SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="20mm" height="10mm">'
    '<rect width="50%" height="100%" fill="red"/></svg>'
)


def _stamp(root, name, title, pixels=None):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".svg":
        path.write_text(SVG)
    else:
        PIL.Image.fromarray(np.zeros((30, 40, 4), np.uint8) if pixels is None else pixels).save(path)
    if title is not None:
        path.with_suffix(".txt").write_text(f"{title}\nfr.utf8=traduction\n")


@pytest.fixture
def stamps(tmp_path, monkeypatch):
    monkeypatch.setattr(collection, "MIN_IN_FOLDER", 8)
    monkeypatch.setattr(collection, "SHARD_SIZE", 7)
    root = tmp_path / "stamps"
    for number in range(12):
        shade = np.full((300, 400, 4), (number, 100, 200, 255), np.uint8)
        shade[:50] = 0
        _stamp(root, f"animals/birds/bird{number}_{chr(97 + number)}.png", f"A {chr(97 + number)} bird.", shade)
        _stamp(root, f"food/drawing_{chr(97 + number)}.svg", f"A drawn {number}.")
    _stamp(root, "symbols/alphabets/english/a.png", "The letter A.")
    _stamp(root, "symbols/star.png", "A star.")
    _stamp(root, "symbols/star_mirror.png", None)
    _stamp(root, "symbols/empty.png", "")
    (root / "symbols/broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    (root / "symbols/broken.txt").write_text("Broken.")
    (root / "symbols/broken2.svg").write_text("<svg")
    (root / "symbols/broken2.txt").write_text("Also broken.")
    (root / "symbols/blank.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="5" height="5"/>')
    (root / "symbols/blank.txt").write_text("Blank.")
    return root


def _all(out):
    for split in Manifest.read(out).splits():
        source = open_source(f"pictures:{out}:{split}")
        yield from (source[index] for index in range(len(source)))


def test_stamps_become_records(stamps, tmp_path):
    out = tmp_path / "out"
    manifest = pictures.prepare(out, given={"tuxpaint": str(stamps)})
    assert manifest.licence == "GPL-2"
    assert manifest.all_dropped() == {
        "blank drawing, as of text without fonts": 1,
        "damaged SVG": 1,
        "letters": 1,
        "no caption": 2,
        "unknown format": 1,
    }
    assert sum(manifest.counts().values()) == 25
    assert json.loads((out / "manifest.json").read_text())["records"] == manifest.counts()
    assert manifest.families["folder"].names == ("animals", "food")
    by_caption = {record.captions: record for record in _all(out)}
    assert len(by_caption) == 25

    bird = by_caption[("A c bird.",)]
    pixels = images.decode(bird.image)
    assert pixels.shape == (256, 341, 3)
    assert (pixels[:30] > 250).all()  # transparent above
    assert np.abs(pixels[-30:].astype(int) - (2, 100, 200)).max() < 6
    assert bird.labels["folder"] == 0

    drawing = by_caption[("A drawn 3.",)]
    pixels = images.decode(drawing.image)
    assert pixels.shape == (256, 512, 3)
    assert np.abs(pixels[100, 50].astype(int) - (255, 0, 0)).max() < 6
    assert np.abs(pixels[100, 450].astype(int) - 255).max() < 6
    assert drawing.labels["folder"] == 1

    star = by_caption[("A star.",)]
    assert images.decode(star.image).shape == (30, 40, 3)
    assert star.labels["folder"] == -1


def test_repetition_keeps_every_byte(stamps, tmp_path, monkeypatch):
    def content(out):
        return {path.name: path.read_bytes() for path in out.iterdir()}

    pictures.prepare(tmp_path / "a", given={"tuxpaint": str(stamps)})
    shutil.copytree(stamps, tmp_path / "elsewhere")
    pictures.prepare(tmp_path / "b", given={"tuxpaint": str(tmp_path / "elsewhere")})
    first = content(tmp_path / "a")
    assert first == content(tmp_path / "b")

    rendered = []
    render = collection.render
    monkeypatch.setattr(collection, "render", lambda path, *blank: rendered.append(path) or render(path, *blank))
    pictures.prepare(tmp_path / "a", given={"tuxpaint": str(stamps)})
    assert not rendered
    assert first == content(tmp_path / "a")

    next((tmp_path / "b").glob("train-00001*")).unlink()
    pictures.prepare(tmp_path / "b", given={"tuxpaint": str(stamps)})
    assert len(rendered) == 7
    assert first == content(tmp_path / "b")


def _picture(number, title, family):
    return Picture(None, f"x/{number}.png", (title,), (("title", words(title)), ("file", family)))


def test_pictures_of_one_concept_stay_in_one_split():
    rng = np.random.default_rng(0)
    made = [_picture(n, f"Title {rng.integers(700)}!", f"file{rng.integers(1500)}") for n in range(1000)]
    splits = collection.split_by_concept(made)
    where = collections.defaultdict(set)
    for split, found in splits.items():
        for picture in found:
            for concept in picture.concepts:
                where[concept].add(split)
    assert all(len(found) == 1 for found in where.values())
    assert sum(len(found) for found in splits.values()) == 1000

    apart = collection.split_by_concept([_picture(n, f"title {n}", n) for n in range(4000)])
    for split, share in collection.SHARES.items():
        assert abs(len(apart[split]) / 4000 - share) < 0.03
    reordered = collection.split_by_concept([_picture(n, f"title {n}", n) for n in reversed(range(4000))])
    assert reordered == apart
    assert sum(collection.SHARES.values()) == pytest.approx(1)


def _run(*arguments):
    return commands.run("mdc_jax.data.prepare.pictures", *arguments)


def test_the_command_shows_counts(stamps, tmp_path):
    done = _run(f"--out={tmp_path}/out", f"--from={stamps}")
    assert done.returncode == 0, done.stderr
    assert "GPL-2" in done.stdout
    assert f"pictures:{tmp_path}/out:train" in done.stdout
    assert "letters" in done.stdout
    assert "examples" in done.stderr  # the progress bar


def test_a_bucket_is_no_place_to_write_to(stamps):
    done = _run("--out=gs://bucket/pictures", f"--from={stamps}")
    assert done.returncode == 1
    assert done.stderr.strip().startswith("error: --out=gs://bucket/pictures: shards are written to a folder of this")


def test_a_source_that_cannot_be_had_is_explained(tmp_path, monkeypatch):
    done = _run(f"--out={tmp_path}/out", f"--from={tmp_path}/nowhere")
    assert done.returncode == 1
    assert "no such folder or .deb file" in done.stderr
    assert "Traceback" not in done.stderr

    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no stamps"):
        pictures.prepare(tmp_path / "out", given={"tuxpaint": str(tmp_path / "empty")})
    (tmp_path / "bad.deb").write_bytes(b"nothing")
    with pytest.raises(FileNotFoundError, match=r"cannot be unpacked|needs dpkg-deb"):
        pictures.prepare(tmp_path / "out", given={"tuxpaint": str(tmp_path / "bad.deb")})

    monkeypatch.setattr(tuxpaint, "_INSTALLED", tmp_path / "not-installed")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(FileNotFoundError, match=r"no apt-get .* Install the package .* or pass --from"):
        pictures.prepare(tmp_path / "out")


def test_processes_write_the_same_bytes(stamps, tmp_path):
    pictures.prepare(tmp_path / "a", given={"tuxpaint": str(stamps)})
    with pictures._workers(2) as map_:
        pictures.prepare(tmp_path / "b", given={"tuxpaint": str(stamps)}, map_=map_)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def _drawing(root, name, title, pixels):
    """A file of Open Clip Art: title in the SVG, pixels in the PNG."""
    _stamp(root / "png", f"{name}.png", None, pixels)
    path = root / "svg" / f"{name}.svg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<svg><Work><title>{title}</title></Work></svg>")


@pytest.fixture
def several(stamps, tmp_path):
    """Stamps, and clip art: all but a blank one of its drawings are stamps under another title."""
    root = tmp_path / "openclipart"
    rng = np.random.default_rng(0)
    for number in range(60):
        pixels = rng.integers(0, 200, (40, 40, 4), np.uint8)
        pixels[..., 3] = 255
        letters = f"{chr(97 + number % 26)}{chr(97 + number // 26)}"
        _drawing(root, f"{'plants' if number % 2 else 'birds'}/{number}", f"bird called {letters}", pixels)
        stamp = stamps / f"photos_{letters}.png"
        PIL.Image.fromarray(pixels).resize((80, 80)).save(stamp)
        stamp.with_suffix(".txt").write_text(f"Stamp called {letters}.")
    _drawing(root, "blank", "nothing", np.full((9, 9, 4), 255, np.uint8))
    return ("tuxpaint", "openclipart"), {"tuxpaint": str(stamps), "openclipart": str(root)}


def test_near_duplicates_of_two_sources_come_into_one_split(several, tmp_path):
    manifest = pictures.prepare(tmp_path / "out", *several)
    assert "blank picture" in manifest.all_dropped()
    found = manifest.audit["near_duplicates"]
    assert found["joined"] and found["pairs"] >= found["between_groups"] >= 60
    assert found["across_splits"] > 10 and found["across_splits_after"] == 0
    assert found["groups_after"] < found["groups"]
    where = {}
    for split in manifest.splits():
        source = open_source(f"pictures:{tmp_path / 'out'}:{split}")
        where |= {source[index].captions[0]: split for index in range(len(source))}
    names = [caption.removeprefix("bird called ") for caption in where if caption.startswith("bird called ")]
    assert len(names) == 60
    for name in names:
        assert where[f"bird called {name}"] == where[f"Stamp called {name}."]

    apart = pictures.prepare(tmp_path / "apart", *several, join=False)
    assert apart.audit["near_duplicates"]["across_splits"] == found["across_splits"]
    assert "across_splits_after" not in apart.audit["near_duplicates"]


def test_the_manifest_speaks_of_every_source_and_of_words_of_labels(several, tmp_path, monkeypatch):
    monkeypatch.setattr(collection, "MIN_IN_FOLDER", 20)
    manifest = pictures.prepare(tmp_path / "out", *several)
    tux, clip_art = manifest.parts
    assert tux["licence"] == "GPL-2" and "public domain" in clip_art["licence"] and clip_art["pictures"] == 61
    assert "GPL-2" in manifest.licence and "public domain" in manifest.licence
    assert manifest.families["openclipart_folder"].names == ("birds", "plants")
    shares = manifest.audit["label_words"]["openclipart_folder"]
    assert sum(share["captions"] for share in shares.values()) == 60
    assert sum(share["with_own_word"] for share in shares.values()) == 30  # "bird", where the label is birds


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--source=tuxpiant"], 'did you mean "tuxpaint"'),
        (["--source=tuxpaint,tuxpaint"], "each source once"),
        (["--source=tuxpaint,emoji", "--from=x"], "--from=tuxpaint=x"),
        (["--source=emoji", "--from=tuxpaint=x"], "does not name tuxpaint"),
        (["--source=emoji", "--from=nowhere"], "no such folder"),
        (["--source=openclipart", "--from=nowhere"], "no such folder"),
    ],
)
def test_a_wrong_flag_is_explained(tmp_path, arguments, message):
    sources = next((a.partition("=")[2] for a in arguments if a.startswith("--source=")), "tuxpaint").split(",")
    given = [a.partition("=")[2] for a in arguments if a.startswith("--from=")]
    failure = pytest.raises((ValueError, FileNotFoundError), match=re.escape(message))
    with failure, pictures._workers(1) as map_:
        known = pictures._sources(sources)
        pictures.prepare(tmp_path / "out", known, pictures._given(known, given), map_=map_)


def test_there_is_a_worker(tmp_path):
    done = commands.run("mdc_jax.data.prepare.pictures", f"--out={tmp_path}", "--workers=0")
    assert done.returncode == 1 and "--workers" in done.stderr and "Traceback" not in done.stderr
