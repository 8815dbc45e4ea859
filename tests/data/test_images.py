"""Decoding and resizing: whatever the bytes are, the right pixels or BadImage."""

import io
import struct
import zlib

import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_sample_image

from mdc_jax.config import sections
from mdc_jax.data import images, resizing


def _photo(height, width, seed=0):
    """A smooth picture, so that ways of resizing agree, with no symmetry."""
    rng = np.random.default_rng(seed)
    coarse = PIL.Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((width, height), PIL.Image.Resampling.BICUBIC))


def _encode(pixels, kind, **options):
    picture = pixels if isinstance(pixels, PIL.Image.Image) else PIL.Image.fromarray(pixels)
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def _difference(first, second):
    return np.abs(np.asarray(first, int) - np.asarray(second, int)).mean()


def _pillow(pixels, size):
    picture = PIL.Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(picture.resize((size, size), PIL.Image.Resampling.BILINEAR))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_give_their_pixels(kind):
    pixels = _photo(20, 31)
    np.testing.assert_array_equal(images.decode(_encode(pixels, kind)), pixels)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_lossy_formats_give_nearly_their_pixels(kind):
    pixels = _photo(60, 90)
    assert _difference(images.decode(_encode(pixels, kind, quality=95)), pixels) < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_undone(orientation):
    upright = _photo(48, 80)
    # The inverse of what a viewer does with the orientation tag.
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation](upright)
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    pixels = images.decode(_encode(np.ascontiguousarray(stored), "JPEG", quality=98, exif=exif))
    assert pixels.shape == upright.shape
    assert _difference(pixels, upright) < 3


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})])
def test_exif_rotation_of_other_formats(kind, options):
    upright = _photo(48, 80)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    pixels = images.decode(_encode(np.ascontiguousarray(np.rot90(upright)), kind, exif=exif, **options))
    np.testing.assert_array_equal(pixels, upright)


def test_exif_is_found_behind_other_segments_and_fill_bytes():
    upright = _photo(48, 80)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    profile = b"\xff\xda" * 40_000  # two segments that hold the marker of the picture itself
    data = _encode(np.ascontiguousarray(np.rot90(upright)), "JPEG", quality=98, exif=exif, icc_profile=profile)
    filled = data.index(b"\xff\xe1")
    for jpeg in (data, data[:filled] + b"\xff\xff" + data[filled:]):
        pixels = images.decode(jpeg)
        assert pixels.shape == upright.shape
        assert _difference(pixels, upright) < 3


def test_transparent_pixels_are_composited_on_white():
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[0, :, :] = (200, 0, 0, 255)
    rgba[1, :, :] = (200, 0, 0, 128)
    pixels = images.decode(_encode(rgba, "PNG"))
    assert tuple(pixels[0, 0]) == (200, 0, 0)
    assert np.abs(pixels[1, 0].astype(int) - (227, 127, 127)).max() <= 1
    assert tuple(pixels[3, 3]) == (255, 255, 255)

    grey = PIL.Image.fromarray(np.asarray([[[10, 255], [10, 0]]], np.uint8), "LA")
    np.testing.assert_array_equal(images.decode(_encode(grey, "PNG"))[0], [[10] * 3, [255] * 3])


def test_palettes_with_and_without_transparency():
    palette = PIL.Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putpixel((1, 0), 1)
    np.testing.assert_array_equal(images.decode(_encode(palette, "PNG"))[0], [[255, 0, 0], [0, 0, 255]])
    pixels = images.decode(_encode(palette, "PNG", transparency=1))
    np.testing.assert_array_equal(pixels[0], [[255, 0, 0], [255, 255, 255]])


def test_grey_cmyk_and_16_bits():
    grey = _photo(40, 40)[..., 0]
    np.testing.assert_array_equal(images.decode(_encode(grey, "PNG")), np.stack([grey] * 3, -1))
    assert _difference(images.decode(_encode(grey, "JPEG", quality=98)), np.stack([grey] * 3, -1)) < 2

    deep = np.asarray([[0, 257, 32_768, 65_535]], np.uint16)
    np.testing.assert_array_equal(images.decode(_encode(deep, "PNG"))[0, :, 0], [0, 1, 128, 255])
    np.testing.assert_array_equal(images.decode(_encode(deep, "TIFF"))[0, :, 0], [0, 1, 128, 255])

    deep = _photo(20, 30).astype(np.uint16) * 257
    for kind in (".png", ".tiff"):
        np.testing.assert_array_equal(images.decode(cv2.imencode(kind, deep[..., ::-1])[1].tobytes()), _photo(20, 30))

    cmyk = PIL.Image.fromarray(_photo(40, 40)).convert("CMYK")
    assert _difference(images.decode(_encode(cmyk, "JPEG", quality=98)), _photo(40, 40)) < 4


@pytest.mark.parametrize("rows", [1, 7])
def test_strips_of_an_image_are_those_of_the_whole(monkeypatch, rows):
    """Large images are converted in strips, for their memory: of any mode, upright or not."""
    picture, exif = PIL.Image.fromarray(_photo(48, 80)), PIL.Image.Exif()
    exif[0x0112] = 6
    clear = picture.convert("RGBA")
    clear.putalpha(PIL.Image.fromarray(_photo(48, 80, seed=1)[..., 0]))
    deep = PIL.Image.fromarray(_photo(48, 80)[..., 0].astype(np.uint16) * 257)
    files = [
        _encode(clear, "PNG"),
        _encode(clear, "WEBP", exif=exif),
        _encode(clear.quantize(9), "PNG"),
        _encode(deep, "PNG", transparency=257),
        _encode(picture.convert("CMYK"), "JPEG", exif=exif),
    ]
    whole = [(images.decode(data), images.decode_rgba(data)) for data in files]
    monkeypatch.setattr(images, "_STRIP", 80 * rows)
    for data, (rgb, rgba) in zip(files, whole, strict=True):
        np.testing.assert_array_equal(images.decode(data), rgb)
        np.testing.assert_array_equal(images.decode_rgba(data), rgba)


def test_a_transparent_level_of_16_bits_is_white():
    deep = PIL.Image.fromarray(np.asarray([[1_000, 40_000]], np.uint16))
    pixels = images.decode(_encode(deep, "PNG", transparency=1_000))
    np.testing.assert_array_equal(pixels[0, :, 0], [255, 156])


def test_floats_are_refused_since_their_white_is_unknown():
    with pytest.raises(images.BadImage, match="pixels are floats"):
        images.decode(_encode(PIL.Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation(kind):
    frames = [PIL.Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
    data = _encode(frames[0], kind, save_all=True, append_images=frames[1:])
    assert _difference(images.decode(data), np.asarray(frames[0])) < 3


def _png_of_no_pixels(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(b""))
    packed = (struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.mark.parametrize("side", [8_000, 30_000])
def test_too_many_pixels_are_refused_from_the_header(side):
    with pytest.raises(images.BadImage, match="too many pixels"):
        images.decode(_png_of_no_pixels(side, side))


def test_webp_has_a_bound_of_its_own(monkeypatch):
    monkeypatch.setattr(images, "_MAX_WEBP_PIXELS", 16 * 16 - 1)
    images.decode(_encode(_photo(16, 16), "PNG"))
    with pytest.raises(images.BadImage, match="too many pixels"):
        images.decode(_encode(_photo(16, 16), "WEBP"))


def test_too_many_pixels_of_a_jpeg():
    data = bytearray(_encode(_photo(16, 16), "JPEG"))
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", 30_000, 30_000)
    with pytest.raises(images.BadImage, match="too many pixels"):
        images.decode(bytes(data))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no bytes"),
        (b"<html>404 not found</html>", "unknown format"),
        (b"\xff\xd8", "unknown format"),
        (_encode(_photo(64, 64), "JPEG")[:900], "damaged JPEG"),
        (_encode(_photo(64, 64), "PNG")[:2000], "damaged PNG"),
        (_encode(_photo(64, 64), "WEBP")[:200], "damaged header"),
    ],
)
def test_damage_has_a_reason(data, reason):
    with pytest.raises(images.BadImage) as caught:
        images.decode(data)
    assert caught.value.reason == reason


@pytest.mark.parametrize("fails", [(PIL.Image, "open"), (PIL.ImageOps, "exif_transpose")], ids=["header", "pixels"])
def test_a_machine_without_memory_is_no_damage(fails, monkeypatch):
    """Else a row would be masked on one reading and not on the next."""

    def out_of_memory(*_, **__):
        raise MemoryError

    content = _encode(_photo(8, 6), "PNG")
    monkeypatch.setattr(*fails, out_of_memory)
    with pytest.raises(MemoryError):
        images.decode(content)


def test_a_harmless_fault_of_a_jpeg_is_forgiven():
    data = _encode(_photo(64, 64), "JPEG")
    start = data.index(b"\xff\xc4")
    pixels = images.decode(data[:start] + b"\0\0\0" + data[start:])
    assert _difference(pixels, _photo(64, 64)) < 5


_FILES = [
    _encode(_photo(40, 50), "JPEG"),
    _encode(_photo(40, 50), "PNG"),
    _encode(_photo(40, 50), "GIF"),
    _encode(_photo(40, 50), "WEBP"),
    _encode(_photo(40, 50), "TIFF"),
    _encode(_photo(40, 50), "BMP"),
]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_damage_does_anything_but_bad_image(data):
    broken = bytearray(data.draw(st.sampled_from(_FILES)))
    for _ in range(data.draw(st.integers(1, 6))):
        start = data.draw(st.integers(0, len(broken)))
        end = min(len(broken), start + data.draw(st.integers(0, 300)))
        broken[start:end] = data.draw(st.binary(max_size=40))

    def attempt():
        try:
            return images.prepare(bytes(broken), sections.Image(size=16), np.random.default_rng(0)).tobytes()
        except images.BadImage as fault:
            return fault.reason

    assert attempt() == attempt()


@pytest.mark.parametrize("shape", [(384, 512), (512, 384), (300, 300), (226, 900), (100, 150), (224, 224), (1, 9)])
@pytest.mark.parametrize("mode", ["resize", "crop"])
def test_resizing_is_antialiased(shape, mode):
    pixels = _photo(*shape)
    seen = pixels
    if mode == "crop":
        side = min(shape)
        top, left = ((length - side) // 2 for length in shape)
        seen = pixels[top : top + side, left : left + side]
    expected = _pillow(seen, 64)
    found = images.prepare(_encode(pixels, "PNG"), sections.Image(size=64, resize=mode))
    assert found.shape == (64, 64, 3)
    assert found.dtype == np.uint8
    assert _difference(found, expected) < 2

    stripes = np.tile(np.asarray([[0], [255]], np.uint8)[:, :, None], (128, 256, 3))
    assert images.prepare(stripes, sections.Image(size=64, resize=mode)).std() < 20  # grey, no pattern


@pytest.mark.parametrize("shape", [(90, 120), (90, 90), (150, 80), (80, 150), (80, 130)])
def test_faster_filters_are_the_general_one(shape):
    """Which of them smooths, a matter of how far each side shrinks, is a matter of speed alone."""
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    rows, columns = (resizing._smoothing(side / 80) for side in shape)
    general = cv2.sepFilter2D(pixels, -1, columns, rows, borderType=cv2.BORDER_REPLICATE).astype(int)
    assert abs(resizing._smoothed(pixels, rows, columns) - general).max() <= 2


_SHAPES = [
    (384, 512),
    (768, 1024),
    (1080, 1920),
    (333, 250),
    (480, 640),
    (700, 700),
    (230, 900),
    (900, 150),
    (150, 200),
]


@pytest.mark.parametrize("shape", _SHAPES)
@pytest.mark.parametrize("kind", ["JPEG", "BMP"])
def test_photographs_are_within_two_levels_of_pillow(shape, kind):
    """Whatever scale a JPEG is decoded at, and however far the photograph shrinks or grows."""
    photo = load_sample_image("china.jpg")
    tiled = np.pad(
        photo, [(0, max(0, n - m)) for n, m in zip(shape, photo.shape, strict=False)] + [(0, 0)], "symmetric"
    )
    data = _encode(tiled[: shape[0], : shape[1]], kind, **({"quality": 90} if kind == "JPEG" else {}))
    found = images.prepare(data, sections.Image(size=224))
    assert _difference(found, _pillow(images.decode(data), 224)) < 2


@pytest.mark.parametrize("mode", ["resize", "crop"])
@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
@pytest.mark.parametrize("shape", [(427, 640), (384, 512), (341, 256), (256, 341), (225, 225), (450, 460), (540, 541)])
def test_photographs_are_within_two_levels_at_every_size(shape, name, mode):
    """Also where the sides are no multiples of the scale, so that the last pixel of a small decode is a part of one."""
    photo = PIL.Image.fromarray(load_sample_image(name)).resize(shape[::-1], PIL.Image.Resampling.LANCZOS)
    data = _encode(photo, "JPEG", quality=92)
    pixels = images.decode(data)
    if mode == "crop":
        side = min(shape)
        top, left = (round((length - side) / 2) for length in shape)
        pixels = pixels[top : top + side, left : left + side]
    for size in (32, 40, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 384):
        found = images.prepare(data, sections.Image(size=size, resize=mode))
        assert _difference(found, _pillow(pixels, size)) < 2, size


@pytest.mark.parametrize(
    ("shape", "needed", "decoded"),
    [
        ((400, 800), (100, 100), (100, 200)),
        ((400, 800), (100, 201), (200, 400)),
        ((400, 800), (200, 400), (200, 400)),
        ((400, 800), (250, 300), (400, 800)),  # not at 5/8, which takes longer
        ((401, 801), (50, 100), (51, 101)),
        ((401, 801), (900, 900), (401, 801)),
    ],
)
def test_a_jpeg_is_decoded_at_the_smallest_scale_that_is_enough(shape, needed, decoded):
    assert images.decode(_encode(_photo(*shape), "JPEG"), needed).shape[:2] == decoded


@pytest.mark.parametrize("width", [512, 640])  # rows of a multiple of 32 bytes
def test_a_jpeg_is_decoded_to_where_the_caches_keep_it(width):
    """Which libjpeg-turbo does only at addresses that are no multiples of 32; else what comes next waits for memory."""
    for _ in range(8):
        assert images.decode(_encode(_photo(64, width), "JPEG")).ctypes.data % 32


@pytest.mark.parametrize(("size", "fast"), [(128, True), (240, False), (300, False)])
def test_colours_are_interpolated_where_shrinking_does_not_smooth_them(size, fast):
    data = _encode(PIL.Image.fromarray(load_sample_image("flower.jpg")).resize((256, 256)), "JPEG", quality=92)
    found = images.prepare(data, sections.Image(size=size))
    interpolated = images.prepare(images.decode(data), sections.Image(size=size))  # which interpolates always
    assert (found != interpolated).any() == fast


def test_an_array_of_the_right_size_passes_untouched():
    pixels = _photo(48, 48)
    assert images.prepare(pixels, sections.Image(size=48)) is pixels or np.shares_memory(
        images.prepare(pixels, sections.Image(size=48)), pixels
    )
    np.testing.assert_array_equal(images.prepare(pixels, sections.Image(size=48)), pixels)


@pytest.mark.parametrize("image", [_photo(48, 48), _photo(96, 70), _encode(_photo(96, 70), "JPEG")])
def test_pixels_are_written_where_asked(image):
    rows = np.zeros((2, 48, 48, 3), np.uint8)
    images.prepare(image, sections.Image(size=48), out=rows[1])
    np.testing.assert_array_equal(rows[1], images.prepare(image, sections.Image(size=48)))
    assert not rows[0].any()


@pytest.mark.parametrize("pixels", [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)])
def test_other_arrays_are_refused(pixels):
    with pytest.raises(images.BadImage, match="instead of uint8"):
        images.prepare(pixels, sections.Image(size=4))


@pytest.mark.parametrize("mode", ["resize", "crop"])
def test_random_crops_keep_the_share_and_a_mild_aspect(mode):
    """The picture's colours are its coordinates, so the crop's corners say where it was cut."""
    height, width = 400, 500
    rows, columns = np.meshgrid(np.linspace(0, 255, height), np.linspace(0, 255, width), indexing="ij")
    pixels = np.stack([rows, columns, 0 * rows], -1).round().astype(np.uint8)
    config = sections.Image(size=200, resize=mode, random_crop=0.4)
    whole_height, whole_width = (400, 400) if mode == "crop" else (400, 500)
    shares, tops = [], []
    for seed in range(200):
        crop = images.prepare(pixels, config, np.random.default_rng(seed)).astype(int)
        high = (crop[-1, 100, 0] - crop[0, 100, 0]) / 255 * height / whole_height
        wide = (crop[100, -1, 1] - crop[100, 0, 1]) / 255 * width / whole_width
        shares.append(high * wide)
        tops.append(crop[0, 100, 0])
        assert 0.72 < wide / high < 1.39
    assert min(shares) > 0.37
    assert max(shares) < 1.02
    assert np.std(shares) > 0.1
    assert np.ptp(tops) > 40
    assert not np.array_equal(images.prepare(pixels, config, np.random.default_rng(0)), images.prepare(pixels, config))


def test_the_same_random_crop_of_a_jpeg_and_of_its_pixels():
    data = _encode(_photo(480, 640), "JPEG", quality=95)
    config = sections.Image(size=64, random_crop=0.3)
    for seed in range(5):
        jpeg = images.prepare(data, config, np.random.default_rng(seed))
        pixels = images.prepare(images.decode(data), config, np.random.default_rng(seed))
        assert _difference(jpeg, pixels) < 3
