"""Data sets of TFDS, read without TensorFlow."""

import contextlib
import io
import pathlib
import shutil
import sys

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core import constants

from mdc_jax.config import ConfigError
from mdc_jax.data import images
from mdc_jax.data.sources import open_source
from mdc_jax.data.sources.base import BadRecord
from mdc_jax.data.sources.tfds import TfdsSource

COUNT = 12


def _png(index):
    file = io.BytesIO()
    PIL.Image.new("RGB", (6, 4), (index * 10, 0, 0)).save(file, "PNG")
    file.seek(0)
    return file


class Pictures(tfds.core.GeneratorBasedBuilder):
    """Images with their edges, a file name, nested captions, alternative texts, a title and a class."""

    VERSION = tfds.core.Version("1.0.0")
    code_path = None  # else TFDS looks for a package

    def _info(self):
        text = tfds.features.Text()
        features = {
            "edges": tfds.features.Image(shape=(None, None, 3)),
            "image": tfds.features.Image(shape=(None, None, 3)),
            "image/filename": text,
            "captions": tfds.features.Sequence({"id": np.int64, "text": text}),
            "alternatives": tfds.features.Sequence(text),
            "about": {"title": text},
            "label": tfds.features.ClassLabel(names=["even", "odd"]),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for index in range(COUNT):
            example = {
                "edges": _png(0),
                "image": _png(index),
                "image/filename": f"{index}.png",
                "captions": [{"id": 0, "text": f"é {index}"}, {"id": 1, "text": f"second {index}"}],
                "alternatives": [],
                "about": {"title": f"title {index}"},
                "label": index % 2,
            }
            yield index, example


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    builder = Pictures(data_dir=tmp_path_factory.mktemp("tfds"), file_format="array_record")
    builder.download_and_prepare()
    return pathlib.Path(builder.data_path)


def test_a_prepared_folder_is_read(prepared):
    source = open_source(f"tfds:{prepared}:train")
    assert len(source) == COUNT
    assert source.families["label"].names == ("even", "odd")
    seen = set()
    for index in range(COUNT):
        record = source[index]
        own = int(record.captions[0].split()[1])
        seen.add(own)
        assert record.captions == (f"é {own}", f"second {own}")
        assert record.columns["about/title"] == (f"title {own}",)
        assert record.columns["alternatives"] == ()
        assert record.columns["image/filename"] == (f"{own}.png",)
        assert record.labels["label"] == own % 2
        np.testing.assert_array_equal(images.decode(record.image), np.full((4, 6, 3), (own * 10, 0, 0)))
    assert seen == set(range(COUNT))
    assert "tensorflow" not in sys.modules
    with pytest.raises(IndexError):
        source[COUNT]


def test_parts_of_a_split_and_columns(prepared):
    half = open_source(f"tfds:{prepared}:train[:50%]")
    assert len(half) == COUNT // 2
    assert half.fingerprint != open_source(f"tfds:{prepared}:train").fingerprint
    titles = open_source(f"columns:about/title=1:tfds:{prepared}:train")
    assert titles[0].captions == titles[0].columns["about/title"]


def test_the_features_of_a_known_data_set():
    with tfds.testing.mock_data(num_examples=3):
        source = open_source("tfds:mnist:test")
        assert len(source) == 3
        assert len(source.families["label"].names) == 10
        assert len(open_source("tfds:mnist:3.*.*:test")) == 3


@pytest.fixture
def coco_captions(prepared, tmp_path, monkeypatch):
    """The set under a name whose own code needs TensorFlow."""
    monkeypatch.setattr(constants, "DATA_DIR", str(tmp_path))
    shutil.copytree(prepared, tmp_path / "coco_captions" / "2014" / "1.1.0")


@pytest.mark.parametrize("version", ["", ":1.1.0", ":1.*.*", "/2014"])
def test_a_name_is_found_by_its_files_and_needs_no_tensorflow(coco_captions, prepared, version):
    source = open_source(f"tfds:coco_captions{version}:train")
    assert source.fingerprint == open_source(f"tfds:{prepared}:train").fingerprint
    assert "tensorflow" not in sys.modules


def test_a_name_whose_code_needs_tensorflow_and_that_is_not_prepared_is_explained(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "DATA_DIR", str(tmp_path))
    with pytest.raises(ConfigError, match=r"coco_captions is not prepared as ArrayRecord.*download_and_prepare"):
        open_source("tfds:coco_captions:train")


def test_the_order_of_features_which_files_do_not_keep_makes_no_difference(prepared):
    """Else a run could not go on: the fingerprint would be another in every process."""
    by_code = TfdsSource("tfds:pictures:train", Pictures(data_dir=prepared.parents[1]), "train")
    by_files = open_source(f"tfds:{prepared}:train")
    assert by_code.fingerprint == by_files.fingerprint
    assert [*by_code[0].columns] == [*by_files[0].columns] == sorted(by_code[0].columns)
    assert by_code[0].image == by_files[0].image


def test_damage_is_a_bad_record_and_a_lost_file_a_read_error(prepared, tmp_path):
    for path in prepared.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (shard,) = tmp_path.glob("*array_record*")
    content = bytearray(shard.read_bytes())
    content[400:404] = bytes(byte ^ 255 for byte in content[400:404])  # whatever stands there
    shard.write_bytes(content)
    faults = 0
    source = open_source(f"tfds:{tmp_path}:train")
    for index in range(COUNT):
        try:
            source[index]
        except BadRecord as fault:
            assert fault.reason == "damaged shard"
            faults += 1
    assert 0 < faults < COUNT
    source = open_source(f"tfds:{tmp_path}:train")
    shard.rename(tmp_path / "away")
    for _ in range(2):
        with pytest.raises(OSError, match="tfds:"):
            source[COUNT - 1]
    (tmp_path / "away").rename(shard)
    with contextlib.suppress(OSError):  # its readers are opened anew by the attempt that finds them broken
        source[COUNT - 1]
    assert source[COUNT - 1].captions


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("tfds:no_such_set:train", "TFDS knows no data set 'no_such_set'"),
        ("tfds:/no/such/folder:train", "not prepared as ArrayRecord.*download_and_prepare"),
        ("tfds:", "tfds:NAME:SPLIT"),
    ],
)
def test_what_is_not_there_is_explained(spec, message, monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(ConfigError, match=message):
        open_source(spec)


def test_wrong_splits_and_sets_that_are_not_prepared(prepared, tmp_path):
    with pytest.raises(ConfigError, match="val"):
        open_source(f"tfds:{prepared}:val")
    with pytest.raises(ConfigError, match=r"train\[x"):
        open_source(f"tfds:{prepared}:train[x")
