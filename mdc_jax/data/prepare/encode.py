"""Encoded images as they are stored: checked, and made smaller where that is asked for."""

import dataclasses
import io
import warnings

import numpy as np
import PIL.Image

from mdc_jax.data import images

warnings.filterwarnings("ignore", category=PIL.Image.DecompressionBombWarning)  # `images` refuses them by its own bound


@dataclasses.dataclass(frozen=True)
class Encoding:
    """`short_side` bounds the shorter side in pixels; 0: every image keeps its bytes, as smaller ones do anyway."""

    short_side: int = 0
    quality: int = 95  # of the JPEG that is written

    def __call__(self, data: bytes) -> bytes:
        """The bytes to store; raises BadRecord where training could not decode them."""
        # Twice the size is enough to start from; for a check alone the smallest scale reads the file to its end too.
        pixels = images.decode(data, (max(1, 2 * self.short_side),) * 2)
        if not self.short_side or min(pixels.shape[:2]) <= self.short_side:
            return data
        return jpeg(pixels, self.short_side, self.quality)


def jpeg(pixels: np.ndarray, short_side: int, quality: int) -> bytes:
    """u8[H, W, 3] as JPEG, its shorter side at most `short_side`."""
    picture = PIL.Image.fromarray(np.ascontiguousarray(pixels))
    shrink = short_side / min(picture.size)
    if shrink < 1:
        size = tuple(max(1, round(side * shrink)) for side in picture.size)
        picture = picture.resize(size, PIL.Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality, subsampling="4:4:4")
    return file.getvalue()
