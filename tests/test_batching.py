"""Images of any form go through a function in order, in batches of one size, while the next ones are prepared."""

import pathlib
import threading

import jax
import numpy as np
import pytest

from mdc_jax import batching
from mdc_jax.data.images import BadImage
from mdc_jax.training import checkpoint

CHECKPOINT = pathlib.Path(__file__).parent / "testdata" / "checkpoint_format_1"


@pytest.fixture(scope="module")
def loaded():
    return checkpoint.load(CHECKPOINT)


def grey(count, size):
    return [np.full((size, size, 3), index, np.uint8) for index in range(count)]


def means(objective, params, batch, key):
    return batch["image"][:, 0, 0, 0], batch.get("more")


def test_rows_keep_their_order_and_what_goes_with_them(loaded):
    size = loaded.config.image.size
    more = {"more": np.arange(20)}
    found = list(batching.stream(loaded, means, grey(20, size), rows=8, more=more))
    assert [len(values) for values, _ in found] == [8, 8, 4]
    for part in zip(*found, strict=True):
        np.testing.assert_array_equal(np.concatenate(part), np.arange(20))


def test_a_batch_is_split_over_all_devices(loaded):
    def devices(objective, params, batch, key):
        assert {shard.data.shape[0] for shard in batch["image"].addressable_shards} == {2}
        assert len(batch["image"].sharding.device_set) == jax.local_device_count() == 8
        return batch["image"][:, 0, 0, 0]

    assert len(next(batching.stream(loaded, devices, grey(3, loaded.config.image.size), rows=16))) == 3


@pytest.mark.parametrize(("images", "rows"), [(1, 8), (9, 16), (17, 24), (100, 24)])
def test_batches_have_few_sizes_that_the_devices_divide(images, rows):
    assert batching.batch_rows(images, most=20, ways=8) == rows


def test_bad_images_are_told_and_have_no_row(loaded, tmp_path):
    images = grey(20, loaded.config.image.size)
    images[3], images[19] = tmp_path / "nowhere.png", b"nonsense"
    told = {}
    found = batching.stream(loaded, means, images, rows=8, on_fault=told.__setitem__)
    values = np.concatenate([values for values, _ in found])
    np.testing.assert_array_equal(values, [i for i in range(20) if i not in (3, 19)])
    assert isinstance(told[3], FileNotFoundError) and isinstance(told[19], BadImage)
    with pytest.raises(FileNotFoundError) as raised:
        list(batching.stream(loaded, means, images, rows=8))
    assert raised.value.__notes__ == ["image 3 of those that were given"]
    with pytest.raises(TypeError, match="a path, bytes, an array or what Pillow opens, not list"):
        batching.prepare([[0, 0, 0]], loaded.config.image)


class Watched:
    """A path that tells when it is read."""

    def __init__(self, path):
        self.path, self.read = path, threading.Event()

    def __fspath__(self):
        self.read.set()
        return str(self.path)


def test_the_next_batch_is_prepared_meanwhile_and_no_more(loaded, tmp_path):
    (tmp_path / "image.ppm").write_bytes(b"P6 1 1 255\n\0\0\0")
    images = [Watched(tmp_path / "image.ppm") for _ in range(24)]
    calls = []

    def during(objective, params, batch, key):
        following = images[8 * (len(calls) + 1) :]
        calls.append(
            all(image.read.wait(10) for image in following[:8]) and not any(i.read.is_set() for i in following[8:])
        )
        return batch["image"][:, 0, 0, 0]

    list(batching.stream(loaded, during, images, rows=8))
    assert calls == [True] * 3
