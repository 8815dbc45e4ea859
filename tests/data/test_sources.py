"""What every source has in common: whatever keeps it from being opened is said in one line, with its spec."""

import pytest

from mdc_jax.config import ConfigError
from mdc_jax.data.prepare import records
from mdc_jax.data.prepare.example import Example
from mdc_jax.data.prepare.manifest import Manifest
from mdc_jax.data.sources import open_source
from mdc_jax.data.sources.base import BadRecord
from tests.data.test_samples import picture


@pytest.mark.parametrize("spec", ["folder:{0}", "mix:1*fake:train+1*folder:{0}", "karpathy:{0},images={0},split=test"])
def test_a_file_that_cannot_be_read_is_explained(spec, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(picture())
    (tmp_path / "captions.csv").mkdir()  # as every user's but root's are files without permission
    spec = spec.format(tmp_path)
    with pytest.raises(ConfigError, match="Is a directory") as caught:
        open_source(spec)
    assert str(caught.value).startswith(f'"{spec}": ')


def test_a_source_without_records_is_refused_and_a_mixture_names_the_part(tmp_path):
    def plan(name, split, *examples):
        return records.ShardPlan(name, split, "1", 1, lambda: examples)

    plans = [
        plan("train-0.arrayrecord", "train", Example(b"image", ("a caption",))),
        plan("test-0.arrayrecord", "test", BadRecord("no bytes")),
    ]
    records.write_all(tmp_path, Manifest("test", "CC0", "nobody", {}, {}), plans)
    full, empty = (f"array_record:{tmp_path}:{split}" for split in ("train", "test"))
    assert len(open_source(full)) == 1
    for spec in (empty, f"mix:1*{full}+1*{empty}", f"columns:caption=1:{empty}", f"subset:1:{empty}"):
        with pytest.raises(ConfigError, match=f'"{empty}" has no records'):
            open_source(spec)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("array_record:s3://bucket/d:train", "s3:// cannot be read: copy the data to this machine, or to gs://"),
        ("folder:https://example.org/photos", "https:// cannot be read"),
        ("FOLDER", "did you mean folder:FOLDER"),
    ],
)
def test_places_that_are_no_sources_are_explained(spec, message, tmp_path):
    spec, message = (text.replace("FOLDER", str(tmp_path)) for text in (spec, message))
    with pytest.raises(ConfigError, match=message):
        open_source(spec)
