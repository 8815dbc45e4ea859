"""Prepared data in a bucket: the manifest by epath, the shards by ArrayRecord's own reader."""

import importlib.util
import pathlib
import sys

import pytest

from mdc_jax.config import ConfigError
from mdc_jax.data import checksums
from mdc_jax.data.prepare import records
from mdc_jax.data.prepare.example import Example
from mdc_jax.data.prepare.manifest import Manifest
from mdc_jax.data.sources import open_source

_spec = importlib.util.spec_from_file_location("fake_bucket", pathlib.Path(__file__).with_name("fake_bucket.py"))
fake_bucket = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fake_bucket)


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """Two shards of 20 records at gs://bucket/data, as a dict that a test may change."""

    def examples():
        return (Example(b"image %d" % index, (f"caption {index}",)) for index in range(20))

    plans = [records.ShardPlan(f"train-{n}.arrayrecord", "train", "1", 20, examples) for n in range(2)]
    records.write_all(tmp_path, Manifest("test", "CC0", "nobody", {}, {}), plans)
    objects = {f"bucket/data/{path.name}": path.read_bytes() for path in tmp_path.iterdir()}
    with fake_bucket.serve(objects) as (address, _):
        _use(address, monkeypatch)
        yield objects


def _use(address, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)  # of epath's gcsfs
    monkeypatch.setenv("CLOUD_STORAGE_EMULATOR_ENDPOINT", address)  # of ArrayRecord


def test_a_bucket_is_read_as_a_folder_is(bucket, tmp_path):
    local = open_source(f"array_record:{tmp_path}:train")
    for spec in ("array_record:gs://bucket/data:train", "array_record:gs://bucket/data/train-*.arrayrecord"):
        source = open_source(spec)
        assert len(source) == 40
        assert source.fingerprint == local.fingerprint
        for index in (0, 25, 39):
            assert source[index] == local[index]
    assert open_source("array_record:gs://bucket/data").fingerprint == local.fingerprint


def test_checksums_of_a_bucket_are_compared(bucket):
    files = checksums.written(open_source("array_record:gs://bucket/data:train"))
    assert checksums.differing(files) == []
    content = bytearray(bucket["bucket/data/train-1.arrayrecord"])
    content[-1] ^= 1
    bucket["bucket/data/train-1.arrayrecord"] = bytes(content)
    assert [str(path) for path in checksums.differing(files)] == ["gs://bucket/data/train-1.arrayrecord"]


def test_what_is_missing_or_cut_off_is_explained(bucket):
    with pytest.raises(ConfigError, match="gs://bucket/none holds no prepared data"):
        open_source("array_record:gs://bucket/none:train")
    bucket["bucket/data/train-1.arrayrecord"] = bucket["bucket/data/train-1.arrayrecord"][:-5]
    with pytest.raises(ConfigError, match=r"gs://bucket/data/train-1\.arrayrecord has .* bytes, it was written with"):
        open_source("array_record:gs://bucket/data:train")


@pytest.mark.parametrize("status", [401, 403])  # for gcsfs the one is no OSError, the other is
@pytest.mark.parametrize("spec", ["array_record:gs://bucket/data:train", "tfds:gs://bucket/set/1.0.0:train"])
def test_a_bucket_that_may_not_be_read_is_explained_once(status, spec, monkeypatch):
    with fake_bucket.serve({}, refusal=status) as (address, _):
        _use(address, monkeypatch)
        with pytest.raises(ConfigError) as caught:
            open_source(f"mix:1*fake:train+1*{spec}")
    assert f'"{spec}": ' in str(caught.value)
    assert str(caught.value).count("gcloud auth application-default login") == 1


def test_what_buckets_raise_is_not_imported_where_none_is_asked(monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "gcsfs.retry", raising=False)
    with pytest.raises(ConfigError, match="no folder"):
        open_source(f"folder:{tmp_path}/none")
    assert "gcsfs.retry" not in sys.modules
