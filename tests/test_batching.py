"""Images of any form go through a function in order, in batches of one size, while the next ones are prepared."""

import pathlib
import threading

import jax
import numpy as np
import PIL.Image
import pytest

from mdc_jax import batching
from mdc_jax.config import sections
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
    with pytest.raises(TypeError, match="a path, bytes, an array or a PIL image, not list"):
        batching.prepare([[0, 0, 0]], loaded.config.image)


class Watched:
    """A path that tells when it is read."""

    def __init__(self, path):
        self.path, self.read = path, threading.Event()

    def __fspath__(self):
        self.read.set()
        return str(self.path)


def _picture(mode):
    """A ramp of colours that goes transparent where the mode can."""
    ramp = np.arange(2304).reshape(48, 48)
    if mode == "I":
        return PIL.Image.fromarray((28 * ramp).astype(np.int32))
    grey, alpha = (PIL.Image.fromarray(band.astype(np.uint8)) for band in (ramp // 9, 255 - ramp // 9))
    if mode in ("LA", "La"):
        return PIL.Image.merge("LA", (grey, alpha)).convert(mode)
    return PIL.Image.merge("RGBA", (grey, grey.rotate(90), alpha, alpha)).convert(mode)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "I"])
def test_a_pil_image_is_what_its_colours_on_white_are(mode):
    picture = _picture(mode)
    found = batching.prepare(picture, sections.Image(size=48))
    if mode == "I":
        expected = np.repeat(np.arange(2304).reshape(48, 48, 1) * 28 / 257, 3, 2)
    else:
        colours = np.asarray(picture.convert("LA" if mode == "La" else mode).convert("RGBA"), float)
        expected = 255 + (colours[..., :3] - 255) * colours[..., 3:] / 255
    np.testing.assert_allclose(found, expected, atol=1)


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_a_pil_image_of_16_bits_is_what_its_file_is(mode, tmp_path):
    picture = PIL.Image.frombytes(mode, (48, 48), (28 * np.arange(2304)).astype("<>"[mode[-1] == "B"] + "u2").tobytes())
    picture.save(tmp_path / "picture.tif")
    settings = sections.Image(size=48)
    expected = np.arange(2304).reshape(48, 48, 1) * 28 / 257
    for given in (picture, PIL.Image.open(tmp_path / "picture.tif"), tmp_path / "picture.tif"):
        np.testing.assert_allclose(batching.prepare(given, settings), np.repeat(expected, 3, 2), atol=1)


def test_pil_images_that_cannot_be_used_say_why(tmp_path):
    settings = sections.Image(size=48)
    with pytest.raises(BadImage, match="pixels are floats"):
        batching.prepare(PIL.Image.new("F", (48, 48)), settings)
    with pytest.raises(BadImage, match="no pixels: its size is 0 x 3"):
        batching.prepare(PIL.Image.new("RGB", (0, 3)), settings)
    PIL.Image.new("RGB", (48, 48)).save(tmp_path / "closed.png")
    with PIL.Image.open(tmp_path / "closed.png") as closed:
        pass
    with pytest.raises(ValueError, match=r"call its load\(\) first"):
        batching.prepare(closed, settings)
    rotated = PIL.Image.new("RGB", (48, 48))
    rotated.paste("red", (0, 0, 48, 24))
    rotated.getexif()[0x0112] = 3  # upside down
    assert batching.prepare(rotated, settings)[40, 0].tolist() == [255, 0, 0]
    assert rotated.getpixel((0, 0)) == (255, 0, 0)  # the caller's is left as it was


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
