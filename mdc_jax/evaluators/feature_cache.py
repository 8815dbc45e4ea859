"""Features of a split, computed once: in memory, or where they are many in files that are mapped into it.

Shapes: N examples of a split.
"""

import math
import pathlib
from collections.abc import Iterable, Mapping

import numpy as np

LARGE = 2**28  # bytes of one array, from which on it is a file


def store(rows: Iterable[Mapping[str, np.ndarray]], folder: pathlib.Path, most: int) -> dict[str, np.ndarray]:
    """Joins batches of rows, of which one exists at a time.

    Args:
      rows: arrays by name, with the same names in each batch.
      folder: an existing one for the arrays of more than LARGE bytes, which are valid as long as it is there.
      most: examples at most; what comes behind is refused by an IndexError.
    """
    arrays: dict[str, np.ndarray] = {}
    count = 0
    for batch in rows:
        if not arrays:
            arrays = {name: _empty(folder / str(i), value, most) for i, (name, value) in enumerate(batch.items())}
        size = len(next(iter(batch.values())))
        if count + size > most:
            raise IndexError(f"{count + size} examples came, of which at most {most} were announced")
        for name, value in batch.items():
            arrays[name][count : count + size] = value
        count += size
    return {name: array[:count] for name, array in arrays.items()}


def _empty(path: pathlib.Path, like: np.ndarray, count: int) -> np.ndarray:
    shape = (count, *like.shape[1:])
    if math.prod(shape) * like.dtype.itemsize <= LARGE:
        return np.empty(shape, like.dtype)
    return np.lib.format.open_memmap(path.with_suffix(".npy"), mode="w+", dtype=like.dtype, shape=shape)
