"""The preview: counts that are right, a page with what training sees, errors that say what to do."""

import dataclasses
import functools
import io
import pathlib

import numpy as np
import PIL.Image
import pytest
from etils import epath

from mdc_jax.config import ConfigError, sections
from mdc_jax.data import checksums, preview
from mdc_jax.data.captions import make_tokenizer
from mdc_jax.data.prepare import records
from mdc_jax.data.prepare.example import Example
from mdc_jax.data.prepare.manifest import Manifest
from mdc_jax.data.sources import open_source
from mdc_jax.report import tables
from tests import commands

ROOT = pathlib.Path(__file__).parents[2]


def _config(spec, buckets=()):
    return sections.Config(
        image=sections.Image(size=32),
        data=sections.Data(train=spec, max_tokens=12, buckets=buckets),
        tokenizer=sections.Tokenizer(vocab_size=256, byte_fallback=False, train_captions=500),
    )


@pytest.fixture
def photos(tmp_path):
    """40 images in two folders, of which four have damaged bytes and two no caption."""
    root = tmp_path / "photos"
    for index in range(40):
        path = root / ("cats" if index % 2 else "dogs") / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(np.full((20, 30, 3), 6 * index, np.uint8)).save(path)
        path.with_suffix(".txt").write_text("a very long caption of an animal " * 3 if index < 10 else "an animal")
        if index in (3, 4, 5, 6):
            path.write_bytes(b"damaged")
        if index in (20, 21):
            path.with_suffix(".txt").unlink()
    return root


def test_counts_of_a_folder_with_damage(photos):
    spec = f"folder:{photos}"
    config, source = _config(spec), open_source(spec)
    found = preview.preview(source, make_tokenizer(config, source), config, records=1_000, images=5)
    assert found.seen == 40
    assert found.bad == {"unknown format": 4, "no caption": 2}
    assert len(found.cards) == 5
    assert all(card.texts[0][-1].text == "EOS" and card.image.shape == (32, 32, 3) for card in found.cards)
    assert len(found.lengths) == 38
    assert preview.truncated(found.lengths, 12) == pytest.approx(10 / 38)
    lines = dict(preview.counts(found, config))
    assert lines["records"] == "40"
    assert lines["longer than 12 tokens"] == "26.3%"
    assert lines["labels"] == "folder (2)"
    assert found.audit.dropped == {"no caption": 2}


def test_few_records_of_a_prime_number_make_large_batches(photos):
    for path in sorted(photos.rglob("*.png"))[:3]:
        path.unlink()
    source = open_source(f"folder:{photos}")
    config = _config(source.spec)
    found = preview.preview(source, make_tokenizer(config, source), config, records=1_000, images=0)
    assert (len(source), found.seen) == (37, 36)


def test_augmentations_that_training_refuses_are_named_and_unsafe_ones_too(photos):
    (photos / "dogs" / "00.txt").write_text("a dog left of a cat")
    source = open_source(f"folder:{photos}")
    for unsafe, verdict in ((False, "training refuses"), (True, "unsafe augmentation")):
        config = _config(source.spec)
        config = dataclasses.replace(config, image=sections.Image(size=32, flip=True, unsafe_augmentation=unsafe))
        found = preview.preview(source, make_tokenizer(config, source), config, records=40, images=0)
        assert "image.flip=True can make captions of" in dict(preview.counts(found, config))[verdict]


def test_the_page_has_every_source_and_the_table_every_label(tmp_path):
    config = _config("scenes:train,size=32", buckets=(9, 12))
    specs = ("scenes:train,size=32", "fake:train,size=32,words=20")
    tokenizer = make_tokenizer(config, open_source(specs[0]))
    found = [preview.preview(open_source(spec), tokenizer, config, records=400, images=2) for spec in specs]
    path = epath.Path(tmp_path) / "page.html"
    preview.write(path, found, config)
    text = path.read_text()
    assert all(f"<h2>{one.source.spec}</h2>" in text for one in found)
    assert text.count('<div class="card">') == 4
    lines = tables.read_csv(path.with_suffix(".csv"))
    assert {(line["source"], line["family"]) for line in lines} >= {(specs[0], "shape"), (specs[0], "count")}
    shape = [line for line in lines if line["family"] == "shape" and line["features"] == "kinds"]
    assert [line["name"] for line in shape] == ["mean", "circle", "square", "triangle", "star", "cross", "ring"]
    assert {line["features"] for line in lines} == {"length", "kinds", "bucket"}
    assert "<th>bucket</th>" in text
    assert all(0 <= float(line["low"]) <= float(line["auc"]) <= float(line["high"]) <= 1 for line in lines)


@pytest.fixture
def prepared(tmp_path):
    """Two shards of as many bytes, with 16 images each."""

    def examples(first):
        for index in range(first, first + 16):
            image = io.BytesIO()
            PIL.Image.fromarray(np.full((8, 8, 3), 6 * index, np.uint8)).save(image, "BMP")
            yield Example(image.getvalue(), (f"number {index}",))

    plans = [
        records.ShardPlan(f"train-{n}.arrayrecord", "train", "1", 16, functools.partial(examples, 10 + 16 * n))
        for n in range(2)
    ]
    records.write_all(tmp_path / "data", Manifest("test", "CC0", "nobody", {}, {}), plans)
    return tmp_path / "data"


def test_checksums_find_a_shard_in_the_place_of_another(tmp_path, prepared):
    spec = f"subset:0%-90%:array_record:{prepared}:train"
    arguments = (spec, f"--out={tmp_path}/page.html", "--records=32", "--images=1")
    same = _run(*arguments, "--checksums")
    assert same.returncode == 0, same.stderr
    assert "of 4 files as in the manifest" in same.stdout

    (prepared / "train-1.arrayrecord").write_bytes((prepared / "train-0.arrayrecord").read_bytes())
    (tmp_path / "page.html").unlink()
    done = _run(*arguments, "--checksums")
    assert done.returncode != 0 and not (tmp_path / "page.html").exists()
    assert (
        f"1 of 4 files are not what their manifest says (sha256): {prepared}/train-1.arrayrecord. Copy" in done.stderr
    )
    assert "Traceback" not in done.stderr
    unnoticed = _run(*arguments)
    assert unnoticed.returncode == 0, unnoticed.stderr
    for text in (unnoticed.stdout, (tmp_path / "page.html").read_text()):
        assert "not compared with the manifest" in text


def test_checksums_of_lengths_and_of_sources_without_any(prepared):
    (prepared / "train-0.lengths.npy").write_bytes((prepared / "train-1.lengths.npy").read_bytes()[:-1] + b"\1")
    (prepared / "train-1.lengths.npy").unlink()
    source = open_source(f"mix:1*array_record:{prepared}:train+1*scenes:train,size=32")
    read = []
    assert checksums.differing(checksums.written(source), read.append) == [
        epath.Path(prepared) / f"train-{n}.lengths.npy" for n in range(2)
    ]
    assert sum(read) == sum((prepared / f"train-{n}.arrayrecord").stat().st_size for n in range(2))
    with pytest.raises(ConfigError, match=r"2 of 4 files .* run the prepare command again"):
        preview.compare([source, source])

    config, scenes = _config("scenes:train,size=32"), open_source("scenes:train,size=32")
    preview.compare([scenes])
    tokenizer = make_tokenizer(config, scenes)
    lines = [
        dict(preview.counts(preview.preview(scenes, tokenizer, config, 8, 0, compared), config))
        for compared in (False, True)
    ]
    assert "checksums" not in lines[0] and lines[1]["checksums"] == "none are kept of this source"


def _run(*arguments):
    return commands.run("mdc_jax.data.preview", *arguments)


def test_the_command_needs_none_of_the_data_of_its_config(tmp_path, photos):
    page = tmp_path / "new" / "page.html"
    config = "configs/pictures.py:data=none"
    done = _run(f"folder:{photos}", f"--config={config}", f"--out={page}", "--records=32", "--images=3")
    assert done.returncode == 0, done.stderr
    assert page.exists()
    assert "40" in done.stdout and "longer than 24 tokens" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name at least one source"),
        (("folder:none",), "there is no folder"),
    ],
)
def test_what_is_wrong_is_said_without_a_traceback(arguments, message):
    done = _run(*arguments)
    assert done.returncode != 0
    assert message in done.stderr and "Traceback" not in done.stderr
