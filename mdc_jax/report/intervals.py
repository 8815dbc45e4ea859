"""How sure a mean over runs is."""

from collections.abc import Sequence

import numpy as np
import scipy.stats


def mean_and_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """(mean, low, high) of a value over runs: Student's t at 95%; without a width where they do not differ."""
    mean, n = float(np.mean(values)), len(values)
    if n == 1 or np.ptp(values) == 0:
        return mean, mean, mean
    half = float(scipy.stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return mean, mean - half, mean + half
