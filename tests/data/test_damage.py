"""Whatever is damaged in shards, headers and images: positions stay, and every reading gives the same batches."""

import dataclasses
import hashlib
import io
import itertools

import numpy as np
import PIL.Image
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mdc_jax.config import ConfigError, sections
from mdc_jax.data import pipeline, retries, tokenizer
from mdc_jax.data.plan import plan_of
from mdc_jax.data.prepare import records
from mdc_jax.data.prepare.example import Example
from mdc_jax.data.prepare.manifest import Manifest
from mdc_jax.data.sources import open_source

COUNT = 12
SPECS = (
    "array_record:{0}:train",
    "subset:9:array_record:{0}:train",
    "columns:re=0.7,caption=0.3:array_record:{0}:train",
    "mix:0.6*array_record:{0}:train+0.4*columns:re=1:subset:5:array_record:{0}:train",
)


def _image(index):
    pixels = np.random.default_rng(index).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, ("JPEG", "PNG", "WEBP", "GIF")[index % 4])
    return file.getvalue()


@dataclasses.dataclass(frozen=True)
class Damaged(Example):
    """An example whose entry is another one."""

    entry: bytes = b""

    def pack(self) -> bytes:
        return self.entry


def _example(index, damage=lambda entry: entry):
    example = Example(_image(index), (f"caption {index}",), columns={"re": (f"re {index}", "other")})
    return Damaged(**vars(example), entry=damage(example.pack()))


def _write(directory, examples):
    inputs = hashlib.sha256(b"".join(example.entry for example in examples)).hexdigest()
    plan = records.ShardPlan("train-0.arrayrecord", "train", inputs, COUNT, lambda: examples)
    records.write_all(directory, Manifest("test", "CC0", "nobody", {}, {}), [plan])
    return directory / plan.name


def _overwritten(data, content):
    """The content with some bytes of it changed, so that its length stays."""
    content = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content) - 1))
        change = data.draw(st.binary(min_size=1, max_size=40))[: len(content) - start]
        content[start : start + len(change)] = change
    return bytes(content)


@pytest.fixture(scope="module")
def words():
    captions = [f"{kind} {index}" for kind in ("caption", "re", "other") for index in range(COUNT)]
    return tokenizer.train(captions, sections.Tokenizer(vocab_size=300))


def _batches(source, words):
    data = sections.Data(batch_size=8, max_tokens=12, threads=0, max_bad_share=1.0)
    config = sections.Config(seed=3, image=sections.Image(size=8, random_crop=0.5), data=data)
    with pipeline.TrainBatches(source, words, config, position=5) as batches:
        taken = list(itertools.islice(batches, 3))
        return {key: np.concatenate([batch[key] for batch in taken]) for key in taken[0]}, batches.bad


def _check(directory, words):
    """Every source over the folder gives the plan's records, twice the same, and masks rows of zeros alone."""
    masked = 0
    for spec in SPECS:
        try:
            source = open_source(spec.format(directory))
        except ConfigError as error:  # nothing is left of a column
            assert "no column" in str(error)
            continue
        first, bad = _batches(source, words)
        again, _ = _batches(source, words)
        for key in first:
            np.testing.assert_array_equal(first[key], again[key], err_msg=f"{spec} {key}")
        plan = plan_of(source, seed=3)
        assert list(first["id"]) == [plan.locate(5 + row)[1] for row in range(24)]
        assert bad.total() == (~first["_mask"]).sum()
        for key in ("image", "text", "length"):
            assert not first[key][~first["_mask"]].any()
        assert (first["length"][first["_mask"]] > 1).all()
        masked += bad.total()
    return masked


SETTINGS = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(retries, "_AFTER", ())


def test_nothing_damaged_nothing_masked(tmp_path, words):
    _write(tmp_path, [_example(index) for index in range(COUNT)])
    assert _check(tmp_path, words) == 0


def test_damage_is_masked(tmp_path, words):
    _write(
        tmp_path,
        [_example(index, lambda entry: entry[:60]) for index in range(COUNT // 2)]
        + [_example(index) for index in range(COUNT // 2, COUNT)],
    )
    assert _check(tmp_path, words) > 20


@SETTINGS
@given(data=st.data())
def test_damaged_entries(tmp_path, words, data):
    broken = data.draw(st.sets(st.integers(0, COUNT - 1), min_size=1, max_size=4))
    _write(
        tmp_path,
        [
            _example(index, lambda entry: _overwritten(data, entry)) if index in broken else _example(index)
            for index in range(COUNT)
        ],
    )
    _check(tmp_path, words)


@SETTINGS
@given(data=st.data())
def test_damaged_headers(tmp_path, words, data):
    """JSON of any kind in place of the texts."""
    anything = st.recursive(
        st.none() | st.integers() | st.text(st.characters(), max_size=8),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=4,
    )
    index = data.draw(st.integers(0, COUNT - 1))
    example = dataclasses.replace(
        Example(_image(index), (), columns={"re": data.draw(anything)}), captions=data.draw(anything)
    )
    try:
        entry = example.pack()
    except UnicodeEncodeError:  # half a character
        return
    _write(
        tmp_path,
        [_example(other, (lambda _: entry) if other == index else (lambda own: own)) for other in range(COUNT)],
    )
    _check(tmp_path, words)


@SETTINGS
@given(data=st.data())
def test_damaged_shards(tmp_path, words, data):
    path = _write(tmp_path, [_example(index) for index in range(COUNT)])
    content = path.read_bytes()
    used = len(content.rstrip(b"\0"))
    path.write_bytes(_overwritten(data, content[:used]) + content[used:])
    _check(tmp_path, words)


def test_half_a_shard_is_refused(tmp_path):
    path = _write(tmp_path, [_example(index) for index in range(COUNT)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for spec in SPECS:
        with pytest.raises(ConfigError, match="copy it again"):
            open_source(spec.format(tmp_path))
