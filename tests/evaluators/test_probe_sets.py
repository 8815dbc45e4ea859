import dataclasses
import importlib.resources.abc
import inspect
import io
import logging
import pathlib
import re
import sys

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core import constants

from mdc_jax.config import ConfigError, sections
from mdc_jax.data.prepare import records
from mdc_jax.data.prepare.example import Example
from mdc_jax.data.prepare.manifest import Manifest
from mdc_jax.data.sources import open_source
from mdc_jax.data.sources.base import Family
from mdc_jax.evaluators import base, build, probe_sets
from tests.evaluators.fakes import make_subject

EXAMPLES = 100  # of each split
IN_TFDS = {name: one for name, one in probe_sets.PROBE_SETS.items() if one.tfds}


def example(features: tfds.features.FeaturesDict, index: int) -> dict[str, object]:
    """An example of a data set: an image of one grey level, the class of its index, and something for all else."""
    image = io.BytesIO()
    PIL.Image.new("RGB", (32, 32), (index,) * 3).save(image, "PNG")
    box = tfds.features.BBox(0.0, 0.0, 1.0, 1.0)
    some = {tfds.features.Image: image.getvalue(), tfds.features.Text: "text", tfds.features.BBoxFeature: box}
    return {
        name: index % feature.num_classes if isinstance(feature, tfds.features.ClassLabel) else some[type(feature)]
        for name, feature in features.items()
    }


@pytest.mark.parametrize("dataset", IN_TFDS)
def test_sets_of_tfds_are_split_and_shuffled_and_their_labels_found(dataset, tmp_path, monkeypatch):
    """TFDS' own builder reads them, of files that hold its features."""
    expected = IN_TFDS[dataset]
    monkeypatch.setattr(constants, "DATA_DIR", str(tmp_path))  # TFDS_DATA_DIR, which it read long ago
    builder = tfds.builder(expected.tfds, file_format="array_record")
    published = inspect.getsource(type(builder)._split_generators)
    splits = {expected.train, expected.test} | ({expected.validation} - {""})
    for split in splits:
        assert re.search(rf"Split\.{split.upper()}\b|[\"']{split}[\"']", published), split
    examples = [(index, example(builder.info.features, index)) for index in range(EXAMPLES)]
    monkeypatch.setitem(sys.modules, "importlib_resources", importlib.resources)  # the same, not in requirements.txt
    monkeypatch.setattr(builder, "_split_generators", lambda _: dict.fromkeys(splits, examples))
    builder.download_and_prepare()

    section = probe_sets.filled(sections.LinearProbe(dataset=dataset))
    assert (section.families, section.metric) == (("label",), expected.metric)
    held_out = 0 if expected.validation else expected.held_out
    sizes = {"train": EXAMPLES - held_out, "validation": held_out or EXAMPLES, "test": EXAMPLES}
    for split, size in sizes.items():
        source = open_source(getattr(section, split))
        assert (len(source), len(source.families["label"].names)) == (size, expected.classes)
        assert source.spec.startswith("subset:")  # of a pseudorandom order
        found = base.extract(
            make_subject(tmp_path),
            source.spec,
            lambda batch, _: {"index": batch["image"].max((1, 2, 3)).astype(int)},
            count=8,
            batch_size=8,
            labels=section.families,
        )
        assert len(found["index"]) == min(size, 8)
        np.testing.assert_array_equal(found["label/label"], found["index"] % expected.classes)


def test_held_out_records_are_no_others():
    specs = (f"subset:{shares}:fake:train,size=8,count=50" for shares in ("0%-90%", "90%-100%"))
    train, held_out = ([source.locate(i)[1] for i in range(len(source))] for source in map(open_source, specs))
    assert len(train) == 45 and sorted(train + held_out) == list(range(50))
    for shares in ("90%-90%", "50%-101%", "0%-1%"):
        with pytest.raises(ConfigError, match="is none of them, or more"):
            open_source(f"subset:{shares}:fake:train,size=8,count=50")


@pytest.fixture
def folders(tmp_path):
    """Ten classes of three images in train, and of one in test."""
    for split, count in (("train", 3), ("test", 1)):
        for name in range(10):
            (tmp_path / split / f"class{name}").mkdir(parents=True)
            for index in range(count):
                PIL.Image.new("RGB", (8, 8), (name, 0, 0)).save(tmp_path / split / f"class{name}" / f"{index}.png")
    return tmp_path


def test_folders_of_classes_are_read_in_no_order_of_their_classes(folders, caplog):
    with caplog.at_level(logging.WARNING, logger="absl"):
        section = probe_sets.filled(sections.LinearProbe(dataset=f"cifar10:{folders}", train_examples=20))
    assert "all of" in caplog.text and "train_examples=27" in caplog.text and "test_examples" not in caplog.text
    assert section.families == ("folder",)
    train, validation = open_source(section.train), open_source(section.validation)
    assert (len(train), len(validation), len(open_source(section.test))) == (27, 3, 10)
    assert len({int(train[index].labels["folder"]) for index in range(12)}) > 5
    build(sections.LinearProbe(dataset=f"cifar10:{folders}")).check(sections.Config())


def test_prepared_records_are_read(tmp_path):
    def examples(split):
        def read():
            for index in range(20):
                yield Example(b"image", ("a plane",), {"kind": index})

        return read

    names = tuple(f"plane {index}" for index in range(100))
    manifest = Manifest("test", "CC0", "nobody", {"kind": Family("class", names)}, {})
    plans = [
        records.ShardPlan(f"{split}-0.arrayrecord", split, "1", 20, examples(split))
        for split in ("train", "validation", "test")
    ]
    records.write_all(tmp_path, manifest, plans)
    specs, family = probe_sets.resolve(f"aircraft:{tmp_path}")
    assert family == "kind" and {len(open_source(spec)) for spec in specs.values()} == {20}


def test_what_is_not_there_is_explained(folders, tmp_path):
    section = sections.LinearProbe(dataset="cifar10")
    with pytest.raises(ConfigError, match='dataset="cifar"; did you mean "cifar10"'):
        probe_sets.filled(dataclasses.replace(section, dataset="cifar"))
    with pytest.raises(ConfigError, match="TFDS does not have aircraft: give its folder"):
        probe_sets.resolve("aircraft")
    with pytest.raises(ConfigError, match="has 10 classes, not 100"):
        probe_sets.resolve(f"cifar100:{folders}")
    with pytest.raises(ConfigError, match=r"needs .*validation/CLASS/image"):
        probe_sets.resolve(f"food101:{folders}")
    with pytest.raises(ConfigError, match="names its own train, validation and test"):
        probe_sets.filled(dataclasses.replace(section, test="scenes:test"))
    assert probe_sets.filled(sections.LinearProbe()) == sections.LinearProbe()


def test_the_readme_lists_the_sets_as_they_are():
    text = (pathlib.Path(probe_sets.__file__).parent / "README.md").read_text()
    rows = {
        cells[0].strip("`"): cells[1:]
        for line in text.splitlines()
        if len(cells := [cell.strip() for cell in line.strip("|").split("|")]) == 8 and cells[2].isdigit()
    }
    assert rows.keys() == probe_sets.PROBE_SETS.keys()
    for name, one in probe_sets.PROBE_SETS.items():
        metric = {probe_sets.TOP_1: "top-1", probe_sets.MEAN_PER_CLASS: "mean per class"}[one.metric]
        held_out = one.validation or f"{one.held_out}% of {one.train}"
        found = f"`{one.tfds}`" if one.tfds else "(none)"
        assert rows[name] == [found, str(one.classes), one.train, held_out, one.test, metric, one.licence]
