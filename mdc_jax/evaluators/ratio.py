"""A mean over tokens or captions, of which an image can have several, with its standard error over images."""

import numpy as np


def of_sums(value_N: np.ndarray, size_N: np.ndarray) -> tuple[float, float]:
    """sum(value) / sum(size) of N images, and its standard error over those with a size (the delta method); NaN of
    one."""
    ratio = value_N.sum() / size_N.sum()
    count = np.count_nonzero(size_N)
    if count == 1:
        return float(ratio), np.nan
    variance = np.sum((value_N - ratio * size_N) ** 2) * count / (count - 1)
    return float(ratio), float(np.sqrt(variance) / size_N.sum())
