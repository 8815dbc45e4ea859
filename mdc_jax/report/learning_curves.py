"""What the probes of several runs found while these trained: joined, drawn, and compared by seed."""

import statistics
from collections.abc import Mapping, Sequence

import numpy as np
from etils import epath

from mdc_jax.report import plots, tables
from mdc_jax.report.intervals import mean_and_interval

MEAN = "mean"  # the metric that is the mean of all others
Curves = Mapping[str, np.ndarray]  # of a run: metric → f64[points, 3], step, seconds and value
Found = Mapping[str, Mapping[int, Curves]]  # variant → seed → ...


def table(found: Found) -> str:
    """Markdown: by variant, paired differences to the first, with 95% t intervals over seeds."""
    reference = next(iter(found.values()))
    metrics = list(next(iter(reference.values())))
    rows = []
    for name, runs in found.items():
        pairs = [(reference[seed], runs[seed]) for seed in runs if seed in reference]
        took, reached = (statistics.fmean(run[MEAN][-1, column] for run in runs.values()) for column in (1, 2))
        differences = {m: [own[m][-1, 2] - first[m][-1, 2] for first, own in pairs] for m in metrics}
        equal_seconds = [_at_equal_seconds(first[MEAN], own[MEAN]) for first, own in pairs]
        cells = map(_interval, (equal_seconds, *differences.values()))
        rows.append([name, str(len(runs)), f"{took:.0f}", f"{reached:.4f}", *cells])
    header = ["", "seeds", "seconds", MEAN, f"{MEAN}, at equal seconds", *(f"{m}, at equal steps" for m in metrics)]
    return tables.markdown(header, rows)


def _at_equal_seconds(first: np.ndarray, own: np.ndarray) -> float:
    """By how much `own` is above `first` when the faster of both ends."""
    until = min(first[-1, 1], own[-1, 1])
    return float(np.interp(until, own[:, 1], own[:, 2]) - np.interp(until, first[:, 1], first[:, 2]))


def _interval(differences: Sequence[float]) -> str:
    mean, low, high = mean_and_interval(differences)
    return f"{mean:+.4f}" if low == high else f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]"


def write(path: epath.Path, found: Found) -> None:
    """Joins the runs into a CSV, and a picture (.svg) and a table (.md) beside it."""
    rows = [
        [name, seed, int(step), seconds, metric, value]
        for name, runs in found.items()
        for seed, curves in runs.items()
        for metric, curve in curves.items()
        for step, seconds, value in curve
    ]
    tables.write_csv(path, ["variant", "seed", "step", "seconds", "metric", "value"], rows)
    path.with_suffix(".md").write_text(table(found))
    means = {name: np.stack([curves[MEAN][:, 1:] for curves in runs.values()]) for name, runs in found.items()}
    path.with_suffix(".svg").write_bytes(plots.bands(means, "seconds of training", "mean of the probes"))
