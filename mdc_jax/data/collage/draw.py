"""From a collage to pixels: cut-outs on a background, none of which hides another.

S is the image's side in pixels.
"""

import io
from collections.abc import Callable

import cv2
import numpy as np
import PIL.Image

from mdc_jax.data.collage.layout import Background, Collage

_PERIOD = 0.12  # of stripes and checks, as a share of the side
_CLOUDS = 6  # cells of random levels, each way


def decode(cutout: bytes) -> PIL.Image.Image:
    """An encoded cut-out as `draw` takes it: RGB times alpha, and alpha."""
    with PIL.Image.open(io.BytesIO(cutout), formats=("WEBP",)) as picture:
        return picture.convert("RGBA").convert("RGBa")


def draw(collage: Collage, size: int, cutout: Callable[[int], PIL.Image.Image]) -> np.ndarray:
    """The collage as u8[size, size, 3], RGB; `cutout` gives the decoded picture of a number."""
    image = _background(collage.background, size)
    for item in collage.items:
        picture = _fitted(cutout(item.cutout), 2 * item.radius * size)
        height, width = picture.shape[:2]
        top, left = round(item.y * size - height / 2), round(item.x * size - width / 2)
        box = image[top : top + height, left : left + width]
        alpha = picture[..., 3:].astype(np.float32) / 255
        box[:] = np.rint(alpha * picture[..., :3] + (1 - alpha) * box).astype(np.uint8)
    return image


def _fitted(picture: PIL.Image.Image, side: float) -> np.ndarray:
    """u8[H, W, 4], its longer side as long as `side`."""
    scale = side / max(picture.size)
    width, height = (max(1, round(scale * length)) for length in picture.size)
    return np.asarray(picture.resize((width, height), PIL.Image.Resampling.BILINEAR).convert("RGBA"))


def _background(background: Background, size: int) -> np.ndarray:
    """u8[S, S, 3]."""
    first, second = (np.array(colour, np.float32) for colour in background.colours)
    share = _SHARE[background.texture](background, size)[..., None]
    return np.rint(first + share * (second - first)).astype(np.uint8)


def _along(background: Background, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of the pixels along the direction of the pattern and across it, f32[S, S] each; 0 at the centre."""
    y, x = np.meshgrid(*(np.arange(size, dtype=np.float32) / size - 0.5,) * 2, indexing="ij")
    cos, sin = np.float32(np.cos(background.direction)), np.float32(np.sin(background.direction))
    return x * cos + y * sin, y * cos - x * sin


def _gradient(background: Background, size: int) -> np.ndarray:
    along, _ = _along(background, size)
    return np.clip(along + 0.5, 0, 1)


def _wave(distance: np.ndarray) -> np.ndarray:
    return np.sin(distance * np.float32(2 * np.pi / _PERIOD))


def _stripes(background: Background, size: int) -> np.ndarray:
    along, _ = _along(background, size)
    return 0.5 + 0.5 * _wave(along)


def _checks(background: Background, size: int) -> np.ndarray:
    along, across = _along(background, size)
    return 0.5 + 0.5 * _wave(along) * _wave(across)


def _clouds(background: Background, size: int) -> np.ndarray:
    cells = np.random.default_rng(background.seed).random((_CLOUDS, _CLOUDS), np.float32)
    return np.clip(cv2.resize(cells, (size, size), interpolation=cv2.INTER_CUBIC), 0, 1)


# How much of the second colour, f32[S, S].
_SHARE: dict[str, Callable[[Background, int], np.ndarray]] = {
    "plain": lambda _, size: np.zeros((size, size), np.float32),
    "gradient": _gradient,
    "stripes": _stripes,
    "checks": _checks,
    "clouds": _clouds,
}
