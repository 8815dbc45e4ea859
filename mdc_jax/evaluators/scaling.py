"""How features are scaled before a probe sees them.

    raw            as they are
    standardised   mean 0 and scale 1 in the training split, for each feature
    normalised     length 1, for each example

Shapes: N examples of a split, D features.
"""

from collections.abc import Callable, Mapping

import numpy as np

from mdc_jax.evaluators import solvers

_CHUNK = 4096

Split = Mapping[str, np.ndarray]  # by name of the split


def scale(features: Split, how: str, *, turned: bool = False, fitted: tuple[str, ...] = ("train",)) -> Split:
    """Scales features f32[N, D], of which one copy exists at a time; raises ValueError for another `how`.

    Of several splits `fitted` the copies lie one behind the other in one array, which is there as `together(fitted)`
    too, so that a probe is fitted on all of them without another copy.

    Args:
      features: of each split.
      how: raw, standardised or normalised.
      turned: onto the principal axes of the splits `fitted`, see `solvers.principal_axes`.
      fitted: the splits that a probe will be fitted on.
    """
    if how == "standardised":
        mean_D, std_D = _mean_and_std(features["train"])
        scale_D = 1 / np.where(std_D > 1e-6, std_D, 1)

        def standardised(x: np.ndarray) -> np.ndarray:
            x = x - mean_D[None]
            x *= scale_D[None]
            return x

        scaled = _room(features, fitted, len(mean_D))
        _fill(scaled, features, standardised)
    elif how == "normalised":
        scaled = _room(features, fitted, features["train"].shape[1])
        _fill(scaled, features, lambda x: x / np.maximum(_length(x), 1e-12)[:, None])
    elif how == "raw":
        scaled = features
    else:
        raise ValueError(f"scaling is {how!r}; expected raw, standardised or normalised")
    if not turned:
        return scaled
    axes = solvers.principal_axes(*(scaled[split] for split in fitted))
    # What is ours already is written over, where that has the room.
    over = how != "raw" and axes.shape[0] == axes.shape[1]
    found = scaled if over else _room(features, fitted, axes.shape[1])
    _fill(found, {split: scaled[split] for split in features}, lambda x: x @ axes)
    return found


def together(splits: tuple[str, ...]) -> str:
    """The name of several splits as one, "train+validation"; of one its own."""
    return "+".join(splits)


def _room(features: Split, fitted: tuple[str, ...], width: int) -> Split:
    """Space for features of that width, those of the splits `fitted` in one array."""
    whole = np.empty((sum(len(features[split]) for split in fitted), width), np.float32)
    ends = np.cumsum([len(features[split]) for split in fitted])
    room = {together(fitted): whole, **dict(zip(fitted, np.split(whole, ends[:-1]), strict=True))}
    return room | {split: np.empty((len(x), width), np.float32) for split, x in features.items() if split not in fitted}


def _fill(room: Split, features: Split, function: Callable[[np.ndarray], np.ndarray]) -> None:
    """Puts `function` of the features of each split into its room, a chunk at a time."""
    for split, x in features.items():
        for rows in _chunks(len(x)):
            room[split][rows] = function(x[rows])


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
