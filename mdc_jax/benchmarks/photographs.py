"""Photographs of any size to measure with: cut from scikit-learn's two sample photos, each cut another."""

import io

import numpy as np
import PIL.Image
from sklearn.datasets import load_sample_images

QUALITY = 90


def photograph(height: int, width: int, index: int) -> np.ndarray:
    """u8[height, width, 3]: photo `index`, always the same: shrunk a little, mirrored at its borders, cut at random."""
    rng = np.random.default_rng(index)
    photos = load_sample_images().images
    photo = PIL.Image.fromarray(photos[index % len(photos)])
    shrink = rng.uniform(0.7, 1.0)
    photo = photo.resize((round(photo.width * shrink), round(photo.height * shrink)), PIL.Image.Resampling.LANCZOS)
    pixels = np.asarray(photo)
    pixels = np.pad(pixels, ((0, height), (0, width), (0, 0)), "symmetric")
    top, left = rng.integers(pixels.shape[0] - height + 1), rng.integers(pixels.shape[1] - width + 1)
    return pixels[top : top + height, left : left + width]


def jpegs(height: int, width: int, count: int) -> list[bytes]:
    """Encoded photographs."""
    encoded = []
    for index in range(count):
        file = io.BytesIO()
        pixels = np.ascontiguousarray(photograph(height, width, index))
        PIL.Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY)
        encoded.append(file.getvalue())
    return encoded
