"""What a difference between two objectives is worth.

Two runs with one seed share their initialisation and the order of their data, so that they are compared in pairs.

Shapes: S seeds, N test examples, R resamples.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

LEVEL = 0.05  # of a test; intervals are at 95%
MARGIN = 0.01  # one point: how much worse may still be called as good
BETTER, WORSE, AS_GOOD, UNDECIDED = "better", "worse", "as good", "not decided"
_ROUNDING = 5e-6  # of a value, which a table has with six digits
_RESAMPLES = 4_000
_PERCENTILES = (2.5, 97.5)


class Difference(NamedTuple):
    """A mean difference with its 95% interval, the two-sided p of no difference, and how many seeds say so."""

    mean: float
    low: float
    high: float
    p: float
    seeds: int


class NoSharedSeed(ValueError):
    """Two entries have no seed in common."""


def paired(first: Mapping[int, float], other: Mapping[int, float]) -> Difference:
    """`first` less `other`, values by seed, by Student's paired t over the seeds that both have.

    One seed has an interval without bounds. Where all seeds differ by as much, up to rounding (a metric at its
    ceiling), their variance says nothing of that of others: there p is 1, and the interval without a width is that of
    what was seen. Raises NoSharedSeed.
    """
    shared = sorted(first.keys() & other.keys())
    if not shared:
        raise NoSharedSeed(f"no seed is in both {sorted(first)} and {sorted(other)}: run both for the same seeds")
    differences = np.array([first[seed] - other[seed] for seed in shared])
    mean, n = float(differences.mean()), len(shared)
    if n == 1:
        return Difference(mean, -math.inf, math.inf, 1.0, 1)
    error = float(differences.std(ddof=1)) / math.sqrt(n)
    if error <= _ROUNDING * max(abs(values[seed]) for values in (first, other) for seed in shared):
        return Difference(mean, mean, mean, 1.0, n)
    import scipy.stats  # slow to import

    half = float(scipy.stats.t.ppf(1 - LEVEL / 2, n - 1)) * error
    p = 2 * float(scipy.stats.t.sf(abs(mean) / error, n - 1))
    return Difference(mean, mean - half, mean + half, p, n)


def clearest(claims: int, seeds: int) -> float:
    """By how many standard errors a mean difference over seeds, two or more, has to differ from 0 for its adjusted p to
    be at most `LEVEL`, where it is the clearest of so many claims."""
    import scipy.stats  # as above

    return float(scipy.stats.t.isf(LEVEL / (2 * claims), seeds - 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusts p values of claims that are made together, in their order (Holm 1979, step-down): the chance that any of
    those at most `LEVEL` is wrong is then at most that, whatever depends on what."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    highest = 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = highest
    return adjusted.tolist()


def verdict(difference: Difference, p: float | None = None) -> str:
    """What may be said of `first`, of a metric that is better where it is higher, in shares.

    BETTER or WORSE where `p`, adjusted or else its own, is at most `LEVEL`, so that the interval excludes 0; AS_GOOD
    where the interval says that it is at most `MARGIN` worse; else UNDECIDED.
    """
    if (difference.p if p is None else p) <= LEVEL:
        return BETTER if difference.mean > 0 else WORSE
    return AS_GOOD if difference.seeds > 1 and difference.low >= -MARGIN else UNDECIDED


def bootstrap(values_SxN: np.ndarray) -> tuple[float, float, float]:
    """The mean of values, or of paired differences, and its 95% interval over examples, of these seeds.

    It says nothing of other seeds: to draw a few of them anew covers far less than 95% of the time; `paired` is for
    that. Every seed has the same examples.
    """
    rng = np.random.default_rng(0)
    examples = values_SxN.shape[1]
    drawn_RxN = rng.multinomial(examples, np.full(examples, 1 / examples), _RESAMPLES)
    low, high = np.percentile(drawn_RxN @ values_SxN.mean(0) / examples, _PERCENTILES)
    return float(values_SxN.mean()), float(low), float(high)
