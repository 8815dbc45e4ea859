"""Images of a model's world, for notebooks.

Shapes: B images, N patches of a square image, row by row, D width, H x W pixels.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CELL, _TITLE, _FONT = 1.5, 0.3, 8  # inches, inches, points


def grid(images: Sequence[np.ndarray], titles: Sequence[str] = (), columns: int = 8) -> "Figure":
    """Draws images, u8[H, W, 3] or f32[H, W] each, row by row, below a title where there is one."""
    from matplotlib.figure import Figure  # slow to import

    rows = -(-len(images) // columns)
    figure = Figure(figsize=(_CELL * columns, (_CELL + _TITLE) * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        axis.set_axis_off()
    for axis, image, title in zip(axes, images, titles or [""] * len(images), strict=False):
        axis.imshow(image, interpolation="nearest")
        axis.set_title(title, fontsize=_FONT, parse_math=False)
    return figure


def as_colours(tokens: np.ndarray) -> np.ndarray:
    """Patch tokens [B, N, D] as u8[B, sqrt(N), sqrt(N), 3]: red, green and blue are their first principal components.

    A class token before the patches is left out. Colours are the same for all images, and mean nothing by themselves:
    patches of like colour have like tokens.
    """
    side = math.isqrt(tokens.shape[1])
    patches = tokens[:, -side * side :].reshape(-1, tokens.shape[-1])
    patches = patches - patches.mean(0, keepdims=True)
    _, _, axes = np.linalg.svd(patches, full_matrices=False)
    parts = patches @ axes[:3].T
    low, high = np.percentile(parts, [2, 98], axis=0, keepdims=True)
    shown = np.clip((parts - low) / np.maximum(high - low, 1e-6), 0, 1)
    return np.round(255 * shown).astype(np.uint8).reshape(len(tokens), side, side, 3)


def spotlight(image: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """u8[H, W, 3], bright where the weights f32[N] of its patches are high."""
    side = math.isqrt(len(weights))
    light = 0.15 + 0.85 * (weights / weights.max()).reshape(side, side)
    light = np.kron(light, np.ones((-(-image.shape[0] // side), -(-image.shape[1] // side))))
    return (image * light[: image.shape[0], : image.shape[1], None]).astype(np.uint8)
