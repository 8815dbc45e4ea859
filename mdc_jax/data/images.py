"""Image bytes to pixels: the one place that decodes, crops and resizes, for training, evaluation and inference.

Shapes: H x W pixels of an image, S = settings.size.
"""

import dataclasses
import io
import math
from collections.abc import Callable

import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps
import simplejpeg

from mdc_jax.config import sections
from mdc_jax.data.sources.base import BadRecord

MAX_PIXELS = 50_000_000  # 150 MB decoded; larger images are refused from their header alone
MAX_ASPECT = 4 / 3  # of random crops, relative to the uncropped image

_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # nothing that runs another program, as EPS does
_ORIENTATION = 0x0112  # EXIF tag

# Batches are made in parallel already, and the other cores belong to the training step.
cv2.setNumThreads(1)


class BadImage(BadRecord):
    """The image cannot be decoded."""


def prepare(
    image: bytes | np.ndarray, settings: sections.Image, crop_rng: np.random.Generator | None = None
) -> np.ndarray:
    """Decodes, crops and resizes one image.

    Args:
      image: encoded bytes, or u8[H, W, 3], which is returned as it is where it has the right size.
      settings: size, resize mode and the smallest share of the area a random crop keeps.
      crop_rng: draws the random crop of training. None (evaluation, inference): no random crop.

    Returns:
      u8[S, S, 3].

    Raises:
      BadImage: the image cannot be decoded, or is larger than MAX_PIXELS.
    """
    window = _window(settings, crop_rng)
    pixels = _checked(image) if isinstance(image, np.ndarray) else decode(image, window.needed(settings.size))
    top, left, height, width = window.box(*pixels.shape[:2])
    return _resize(pixels[top : top + height, left : left + width], settings.size)


def decode(data: bytes, needed: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Encoded bytes to u8[H, W, 3]: upright, on white where transparent, the first frame of an animation.

    Args:
      data: a file in one of the common formats, known by its content.
      needed: height and width. A JPEG is decoded at the smallest of libjpeg's scales (eighths) that
        gives at least so many pixels, or at full size where there is none; 0, 0: at full size.

    Raises:
      BadImage: see `prepare`.
    """
    if not data:
        raise BadImage("no bytes")
    if data.startswith(b"\xff\xd8"):
        pixels = _decode_jpeg(data, needed)
        if pixels is not None:
            return pixels
    return _decode_any(data)


def _decode_jpeg(data: bytes, needed: tuple[int, int]) -> np.ndarray | None:
    """The fast way, for upright RGB and grey JPEGs without any fault; None leaves it to Pillow."""
    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(data)
        if height * width > MAX_PIXELS:
            raise BadImage("too many pixels")
        if colors in ("CMYK", "YCCK") or (b"Exif\0\0" in data and _is_rotated(data)):
            return None
        return simplejpeg.decode_jpeg(data, "RGB", min_height=needed[0], min_width=needed[1], min_factor=1)
    except BadImage:
        raise
    except ValueError:  # some faults are harmless, and Pillow knows which
        return None


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
    return _decode_any(data, lambda picture: picture.convert("RGBA"))


def _decode_any(data: bytes, convert: Callable[[PIL.Image.Image], PIL.Image.Image] | None = None) -> np.ndarray:
    try:
        picture = PIL.Image.open(io.BytesIO(data), formats=_FORMATS)
    except PIL.UnidentifiedImageError as error:
        raise BadImage("unknown format") from error
    except PIL.Image.DecompressionBombError as error:
        raise BadImage("too many pixels") from error
    except Exception as error:  # Pillow raises nearly any type on damaged bytes
        raise BadImage("damaged header") from error
    with picture:
        if picture.width * picture.height > MAX_PIXELS:
            raise BadImage("too many pixels")
        try:
            return np.asarray((convert or _to_rgb)(PIL.ImageOps.exif_transpose(picture)))
        except Exception as error:  # as above
            raise BadImage(f"damaged {picture.format}") from error


def _to_rgb(picture: PIL.Image.Image) -> PIL.Image.Image:
    """Any of Pillow's modes to RGB, transparent pixels onto white."""
    if picture.mode.startswith("I"):  # 16 bits of grey; Pillow's own conversion would clip at 255
        grey = np.clip(np.asarray(picture), 0, 65_535).astype(np.uint32)
        picture = PIL.Image.fromarray(((grey * 255 + 32_767) // 65_535).astype(np.uint8))
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

    def needed(self, size: int) -> tuple[int, int]:
        """Height and width of the image at which the window has at least size x size pixels."""
        height, width = (min(self.height, self.width),) * 2 if self.square else (self.height, self.width)
        return math.ceil(size / height), math.ceil(size / width)


def _window(settings: sections.Image, rng: np.random.Generator | None) -> _Window:
    square = settings.resize == "crop"
    if rng is None or settings.random_crop >= 1:
        return _Window(square=square)
    share, aspect, top, left = rng.random(4)
    share = settings.random_crop + (1 - settings.random_crop) * share
    # |log aspect| <= -log share keeps both sides within the image, so that the area is what was drawn.
    aspect = math.exp((2 * aspect - 1) * min(math.log(MAX_ASPECT), -math.log(share)))
    return _Window(math.sqrt(share / aspect), math.sqrt(share * aspect), top, left, square)


def _resize(pixels: np.ndarray, size: int) -> np.ndarray:
    """u8[H, W, 3] to u8[size, size, 3]; averages areas where it shrinks by more than half as much again."""
    height, width = pixels.shape[:2]
    if (height, width) == (size, size):
        return pixels
    shrinks = max(height, width) > 1.5 * size
    return cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
