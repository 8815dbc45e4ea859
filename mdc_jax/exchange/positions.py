"""Learned positions on another grid of patches: each library's own way, so that both find the same features there.

All take a square grid f32[n, n, D] to f32[m, m, D].
"""

from collections.abc import Callable

import jax
import numpy as np

Resample = Callable[[np.ndarray, int], np.ndarray]


def antialiased_bicubic(grid: np.ndarray, size: int) -> np.ndarray:
    """timm's, and ours: cubic convolution with a = -1/2, over a wider neighbourhood where the grid shrinks."""
    return np.asarray(jax.image.resize(grid, (size, size, grid.shape[-1]), "cubic", antialias=True))


def bilinear(grid: np.ndarray, size: int) -> np.ndarray:
    """big_vision's: linear, not antialiased, and the corners stay where they are."""
    import scipy.ndimage

    factor = size / len(grid)
    return scipy.ndimage.zoom(grid, (factor, factor, 1), order=1)


def bicubic(grid: np.ndarray, size: int) -> np.ndarray:
    """That of transformers: cubic convolution with a = -3/4, not antialiased, the border repeated."""
    weights = _cubic_weights(len(grid), size).astype(grid.dtype)
    return np.einsum("ip,jq,pqd->ijd", weights, weights, grid, optimize=True)


def _cubic_weights(old: int, new: int) -> np.ndarray:
    """What each of `old` points weighs in each of `new`, [new, old] (Keys 1981, equation 4 of any a)."""
    a = -0.75
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    taps = np.floor(centres)[:, None] + np.arange(-1, 3)
    distance = abs(taps - centres[:, None])
    near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    far = a * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    weights = np.zeros((new, old))
    rows = np.broadcast_to(np.arange(new)[:, None], taps.shape)
    np.add.at(weights, (rows, taps.clip(0, old - 1).astype(int)), np.where(distance <= 1, near, far))
    return weights
