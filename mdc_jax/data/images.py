"""Image bytes to pixels: the one place that decodes, crops and resizes, for training, evaluation and inference.

Shapes: H x W pixels of an image, S = settings.size.
"""

import dataclasses
import io
import math
import os
import stat
from typing import NamedTuple

import numpy as np
import PIL.Image
import PIL.ImageOps
import simplejpeg

from mdc_jax.config import sections
from mdc_jax.data.resizing import Box, resize
from mdc_jax.data.sources.base import BadRecord

# Larger images are refused from their header alone. Decoding takes at most 450 MiB of memory so, whatever the format:
# Pillow's decoder of WebP, made for animations, holds the picture four times with its alpha.
MAX_PIXELS = 50_000_000
_MAX_WEBP_PIXELS = 25_000_000
MAX_BYTES = 2**26  # of an encoded image; larger files are not read
TOO_LARGE = "huge image"
_STRIP = 2**20  # pixels that are converted at once
MAX_ASPECT = 4 / 3  # of random crops, relative to the uncropped image

# libjpeg's fast scales. Those between them (3/8, 5/8 ...) take as long as a full decode, or longer.
_SCALES = (8, 4, 2)
# A JPEG is decoded small only where more than this is left to shrink: the last bit is what smooths. With 1.2 sharp
# photographs are 2.5 grey levels from Pillow's.
_SPARE = 1.35
# Colours that were stored for 2 x 2 pixels are given to all four where the image shrinks by more than this, which
# smooths them: at 1.14 photographs are up to .3 grey levels further from Pillow's, and up to .9 where the size stays.
_SMOOTHED = 1.1

_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # nothing that runs another program, as EPS does
_ORIENTATION = 0x0112  # EXIF tag


class BadImage(BadRecord):
    """The image cannot be decoded."""


def prepare(
    image: bytes | np.ndarray,
    settings: sections.Image,
    crop_rng: np.random.Generator | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Decodes, crops and resizes one image.

    Args:
      image: encoded bytes, or u8[H, W, 3], which is returned as it is where it has the right size.
      settings: size, resize mode and the smallest share of the area a random crop keeps.
      crop_rng: draws the random crop of training. None (evaluation, inference): no random crop.
      out: u8[S, S, 3] to write to, such as the row of a batch. None: a new array, or the image itself.

    Returns:
      u8[S, S, 3].

    Raises:
      BadImage: the image cannot be decoded, or too large.
    """
    window = _window(settings, crop_rng)
    if isinstance(image, np.ndarray):
        decoded = _Decoded(_checked(image), *image.shape[:2])
    else:
        decoded = _decode(image, window.needed(settings.size), smoothed=True)
    box = (length / decoded.scale for length in window.box(decoded.height, decoded.width))
    return resize(decoded.pixels, Box(*box), settings.size, out)


def decode(data: bytes, needed: tuple[float, float] = (math.inf, math.inf)) -> np.ndarray:
    """Encoded bytes to u8[H, W, 3]: upright, on white where transparent, the first frame of an animation.

    Args:
      data: a file in one of the common formats, known by its content.
      needed: height and width. A JPEG may be decoded at a half, a quarter or an eighth of its size if that
        leaves so many pixels.

    Raises:
      BadImage: see `prepare`.
    """
    return _decode(data, needed).pixels


def of_picture(picture: PIL.Image.Image) -> np.ndarray:
    """What Pillow has opened, or made, as `decode` gives its file. Raises BadImage; ValueError for a closed file."""
    if not (picture.width and picture.height):
        raise BadImage(f"no pixels: its size is {picture.width} x {picture.height}")
    if picture.width * picture.height > MAX_PIXELS:
        raise BadImage("too many pixels")
    try:
        picture.load()
        rotated = picture.getexif().get(_ORIENTATION, 1) != 1
        return _pixels(PIL.ImageOps.exif_transpose(picture) if rotated else picture, "RGB")
    except (BadImage, MemoryError):
        raise
    except AssertionError as error:
        raise ValueError("a PIL image's file was closed before its pixels were read: call its load() first") from error
    except Exception as error:  # Pillow raises nearly any type: on damaged bytes, and of modes that it cannot convert
        raise BadImage(f"damaged {picture.format or f'image of mode {picture.mode}'}") from error


def check_file(path: str | os.PathLike[str]) -> None:
    """Lets a file pass that can be read in a moment and into memory.

    Raises:
      BadImage: it is no regular file (a pipe would be waited for), or larger than MAX_BYTES.
      OSError: it is not there.
    """
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise BadImage("no regular file")
    if found.st_size > MAX_BYTES:
        raise BadImage(TOO_LARGE)


def read(path: str | os.PathLike[str]) -> bytes:
    """The bytes of an image file; raises as `check_file`, and OSError where it cannot be read."""
    check_file(path)
    with open(path, "rb") as file:
        return file.read()


class _Decoded(NamedTuple):
    """An image of height x width at 1 / scale of its size; the last pixels may be cut."""

    pixels: np.ndarray
    height: int
    width: int
    scale: int = 1


def _decode(data: bytes, needed: tuple[float, float], smoothed: bool = False) -> _Decoded:
    """See `decode`; what is `smoothed`, to 1 / _SPARE of what it needs, may come with colours in blocks."""
    if not data:
        raise BadImage("no bytes")
    if data.startswith(b"\xff\xd8"):
        decoded = _decode_jpeg(data, needed, smoothed)
        if decoded is not None:
            return decoded
    pixels = _decode_any(data)
    return _Decoded(pixels, *pixels.shape[:2])


def pixels_needed(settings: sections.Image) -> tuple[float, float]:
    """Height and width that `prepare` asks of `decode` where it draws no crop."""
    return _window(settings, None).needed(settings.size)


def _decode_jpeg(data: bytes, needed: tuple[float, float], smoothed: bool) -> _Decoded | None:
    """The fast way, for upright RGB and grey JPEGs without any fault; None leaves it to Pillow."""
    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(data)
        if height * width > MAX_PIXELS:
            raise BadImage("too many pixels")
        if colors in ("CMYK", "YCCK") or (_may_have_exif(data) and _is_rotated(data)):
            return None
        scale = next((s for s in _SCALES if height >= s * needed[0] and width >= s * needed[1]), 1)
        rows, columns = -(-height // scale), -(-width // scale)
        pixels = simplejpeg.decode_jpeg(
            data,
            "RGB",
            fastupsample=smoothed and _SPARE * min(height / needed[0], width / needed[1]) > _SMOOTHED,
            min_height=rows,
            min_width=columns,
            buffer=_uneven(rows * columns * 3),
        )
        return _Decoded(pixels, height, width, scale)
    except BadImage:
        raise
    except ValueError:  # some faults are harmless, and Pillow knows which
        return None


def _uneven(size: int) -> np.ndarray:
    """u8[size] at an odd address.

    To multiples of 32, which are a matter of luck, libjpeg-turbo writes past the caches, and resizing then waits for
    the memory, a seventh of the time that a photograph of 512 x 384 takes.
    """
    return np.empty(size + 1, np.uint8)[1:]


def _may_have_exif(data: bytes) -> bool:
    """Walks the segments of a JPEG up to the picture; what cannot be walked may have anything."""
    at = 2
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] != b"\xda":
        if data[at + 4 : at + 10] == b"Exif\0\0":
            return True
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return data[at : at + 2] != b"\xff\xda"


def _is_rotated(data: bytes) -> bool:
    try:
        with PIL.Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
            return picture.getexif().get(_ORIENTATION, 1) != 1
    except Exception:  # Pillow raises nearly any type on damaged bytes; `_decode_any` names the damage
        return True


def decode_rgba(data: bytes) -> np.ndarray:
    """Encoded bytes to u8[H, W, 4]; where `decode` puts transparent pixels on white, they keep their alpha.

    Raises:
      BadImage: see `prepare`.
    """
    if not data:
        raise BadImage("no bytes")
    return _decode_any(data, "RGBA")


def _decode_any(data: bytes, mode: str = "RGB") -> np.ndarray:
    try:
        picture = PIL.Image.open(io.BytesIO(data), formats=_FORMATS)
    except PIL.UnidentifiedImageError as error:
        raise BadImage("unknown format") from error
    except PIL.Image.DecompressionBombError as error:
        raise BadImage("too many pixels") from error
    except MemoryError:  # the machine's fault: on another reading the image may be whole
        raise
    except Exception as error:  # Pillow raises nearly any type on damaged bytes
        raise BadImage("damaged header") from error
    with picture:
        if picture.width * picture.height > (_MAX_WEBP_PIXELS if picture.format == "WEBP" else MAX_PIXELS):
            raise BadImage("too many pixels")
        try:
            PIL.ImageOps.exif_transpose(picture, in_place=True)
            return _pixels(picture, mode)
        except (BadImage, MemoryError):
            raise
        except Exception as error:  # as above
            raise BadImage(f"damaged {picture.format}") from error


def _pixels(picture: PIL.Image.Image, mode: str) -> np.ndarray:
    """u8[H, W, channels of the mode], converted by strips of rows, since the steps between need a multiple of it."""
    width, height = picture.size
    rows = max(1, _STRIP // width)
    pixels = np.empty((height, width, len(mode)), np.uint8)
    for top in range(0, height, rows):
        strip = picture.crop((0, top, width, min(top + rows, height)))
        pixels[top : top + rows] = _to_rgb(strip) if mode == "RGB" else strip.convert(mode)
    return pixels


def _to_rgb(picture: PIL.Image.Image) -> PIL.Image.Image:
    """Any of Pillow's modes to RGB, transparent pixels onto white; floats, whose white is unknown, are a BadImage."""
    if picture.mode == "F":
        raise BadImage("pixels are floats")
    if picture.mode.startswith("I"):  # 16 bits of grey; Pillow's own conversion would clip at 255
        grey = np.clip(np.asarray(picture), 0, 65_535).astype(np.uint32)
        if "transparency" in picture.info:
            grey = np.where(grey == picture.info["transparency"], 65_535, grey)
        picture = PIL.Image.fromarray(((grey * 255 + 32_767) // 65_535).astype(np.uint8))
    if picture.mode == "La":  # which Pillow converts to nothing else
        picture = picture.convert("LA")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = PIL.Image.alpha_composite(PIL.Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


def _checked(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise BadImage(f"array {pixels.dtype}{list(pixels.shape)} instead of uint8[H, W, 3]")
    return pixels


@dataclasses.dataclass(frozen=True)
class _Window:
    """The part of an image that is seen, at whatever resolution it is decoded."""

    height: float = 1.0  # share of the image's sides, or of its short side if `square`
    width: float = 1.0
    top: float = 0.5  # 0 touches the upper border, 1 the lower one
    left: float = 0.5
    square: bool = False

    def box(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Top, left, height and width in pixels within an image of height x width."""
        high, wide = (min(height, width),) * 2 if self.square else (height, width)
        high, wide = max(1, round(high * self.height)), max(1, round(wide * self.width))
        return round((height - high) * self.top), round((width - wide) * self.left), high, wide

    def needed(self, size: int) -> tuple[float, float]:
        """Height and width of the image at which the window has size x size pixels, and some to spare."""
        height, width = (min(self.height, self.width),) * 2 if self.square else (self.height, self.width)
        return _SPARE * size / height, _SPARE * size / width


def _window(settings: sections.Image, rng: np.random.Generator | None) -> _Window:
    square = settings.resize == "crop"
    if rng is None or settings.random_crop >= 1:
        return _Window(square=square)
    share, aspect, top, left = rng.random(4)
    share = settings.random_crop + (1 - settings.random_crop) * share
    # |log aspect| <= -log share keeps both sides within the image, so that the area is what was drawn.
    aspect = math.exp((2 * aspect - 1) * min(math.log(MAX_ASPECT), -math.log(share)))
    return _Window(math.sqrt(share / aspect), math.sqrt(share * aspect), top, left, square)
