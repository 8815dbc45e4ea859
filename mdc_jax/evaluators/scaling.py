"""How features are scaled before a probe sees them.

    raw            as they are
    standardised   mean 0 and scale 1 in the training split, for each feature
    normalised     length 1, for each example

Shapes: N examples of a split, D features.
"""

from collections.abc import Mapping

import numpy as np

from mdc_jax.evaluators import solvers

_CHUNK = 4096

Split = Mapping[str, np.ndarray]  # by name of the split


def scale(features: Split, how: str, *, turned: bool = False, fitted: tuple[str, ...] = ("train",)) -> Split:
    """Scales features f32[N, D], of which one copy exists at a time; raises ValueError for another `how`.

    Args:
      features: of each split.
      how: raw, standardised or normalised.
      turned: onto the principal axes of the splits `fitted`, see `solvers.principal_axes`.
      fitted: the splits that a probe will be fitted on.
    """
    if how == "standardised":
        mean_D, std_D = _mean_and_std(features["train"])
        scale_D = 1 / np.where(std_D > 1e-6, std_D, 1)
        scaled = {split: x - mean_D[None] for split, x in features.items()}
        for x in scaled.values():
            x *= scale_D[None]
    elif how == "normalised":
        scaled = {split: x / np.maximum(_length(x), 1e-12)[:, None] for split, x in features.items()}
    elif how == "raw":
        scaled = dict(features)
    else:
        raise ValueError(f"scaling is {how!r}; expected raw, standardised or normalised")
    if not turned:
        return scaled
    axes = solvers.principal_axes(*(scaled[split] for split in fitted))
    # What is ours already is written over, where that has the room.
    over = how != "raw" and axes.shape[0] == axes.shape[1]
    for split, x in scaled.items():
        out = x if over else np.empty((len(x), axes.shape[1]), np.float32)
        for rows in _chunks(len(x)):
            out[rows] = x[rows] @ axes
        scaled[split] = out
    return scaled


def joined(parts: list[np.ndarray]) -> np.ndarray:
    """Concatenates, without a copy where there is one."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _length(x_NxD: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("nd,nd->n", x_NxD, x_NxD))


def _chunks(count: int) -> list[slice]:
    return [slice(first, first + _CHUNK) for first in range(0, count, _CHUNK)]


def _mean_and_std(x_NxD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """In float64, of which there is a chunk at a time."""
    chunks = _chunks(len(x_NxD))
    mean_D = sum(x_NxD[rows].sum(0, dtype=np.float64) for rows in chunks) / len(x_NxD)
    variance_D = sum(np.square(x_NxD[rows] - mean_D[None]).sum(0) for rows in chunks) / len(x_NxD)
    return mean_D.astype(np.float32), np.sqrt(variance_D).astype(np.float32)
