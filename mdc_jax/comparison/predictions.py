"""Predictions of every example, paired between two entries: what a single seed has to say, and several more surely.

Shapes: S seeds, N examples.
"""

import statistics
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from mdc_jax import files
from mdc_jax.comparison.findings import Findings, Run
from mdc_jax.comparison.significance import bootstrap
from mdc_jax.report import evaluations

Right = Mapping[str, Mapping[str, float]]  # by what is asked, and example: how right it is


def read(path: epath.Path) -> Right:
    """Reads a file of JSON lines; those that say nothing of right or wrong are left out.

    Of several scorers the first counts, as elsewhere, and of several lines of an example (captions of an image that are
    queries of their own) the mean. Raises ConfigError for a damaged file.
    """
    found: dict[str, dict[str, list[float]]] = {}
    scorers: dict[str, str] = {}
    for line in files.read_json_lines(path):
        row = _row(line)
        if row and scorers.setdefault(row.asked, row.scorer) == row.scorer:
            found.setdefault(row.asked, {}).setdefault(row.example, []).append(row.right)
    return {
        asked: {example: statistics.fmean(values) for example, values in examples.items()}
        for asked, examples in found.items()
    }


class _Row(NamedTuple):
    asked: str
    scorer: str
    example: str
    right: float


def _row(line: Mapping[str, Any]) -> _Row | None:
    """Of `foils.jsonl`, of the `predictions.jsonl` of retrieval and of probes, or of `captions.jsonl`."""
    if "scorers" in line:
        scorer, found = next(iter(line["scorers"].items()))
        return _Row(line["kind"], scorer, str(line["index"]), float(found["right"]["accuracy"]))
    if "right" not in line:
        return None
    scorer, _, metric = line.get("metric", "").partition("/")
    asked = metric or "/".join(line[key] for key in ("family", "probe") if key in line) or "right"
    return _Row(asked, scorer, str(line["id"]), float(line["right"]))


def differences(findings: Findings) -> list[tuple[str, str, str, int, int, tuple[float, float, float]]]:
    """The first entry less each that it is held against: means over seeds, by bootstrap over examples.

    Returns (evaluator and file, what is asked, other entry, seeds, examples, (mean, low, high)) each.
    """
    first = findings.entries[0]
    by_run = {(run.entry, run.seed): _of(run) for run in findings.runs}
    rows = []
    for other in findings.others:
        seeds = [seed for entry, seed in by_run if entry == first and (other, seed) in by_run]
        pairs = [(by_run[first, seed], by_run[other, seed]) for seed in seeds]
        shared = [own.keys() & theirs.keys() for own, theirs in pairs]
        for where, asked in sorted(set.intersection(*shared)) if shared else ():
            own, theirs = ([side[where, asked] for side in sides] for sides in zip(*pairs, strict=True))
            examples = sorted(set.intersection(*map(set, own), *map(set, theirs)))
            if examples:
                values = np.array([[a[i] - b[i] for i in examples] for a, b in zip(own, theirs, strict=True)])
                rows.append((where, asked, other, len(seeds), len(examples), bootstrap(values)))
    return rows


def _of(run: Run) -> dict[tuple[str, str], Mapping[str, float]]:
    """By file and what is asked, the examples of a run."""
    names = sorted({path.name for path in evaluations.of_step(run.folder, run.step).glob("*/*.jsonl")})
    return {
        (f"{evaluator}/{path.name}", asked): examples
        for name in names
        for evaluator, path in evaluations.at(run.folder, run.step, name).items()
        for asked, examples in read(path).items()
    }
