"""`results.csv`: each number of every evaluation of every run, beside what training had cost until then.

The metrics are those of the run's log, as "shape", or of a later `mdc_jax.evaluate` in its folder, which counts where
both are there; and those of the tables of its evaluators, whose names are the columns that tell their lines apart: see
`TABLES`. Of what is measured by third of a caption, as "signal/last_third", there is "signal/last_less_first" too.
"""

import os
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

from mdc_jax import files
from mdc_jax.comparison import costs, sequence
from mdc_jax.config import sections
from mdc_jax.evaluate import VALUES_FILE
from mdc_jax.report import evaluations, tables
from mdc_jax.report.metrics_file import read
from mdc_jax.training import loop

RESULTS_FILE = "results.csv"
HEADER = ("entry", "seed", "step", "examples", "flops", "seconds", "evaluator", "split", "metric", "value")
# Of the tables that evaluators write: the columns that make a metric's name, as in
# "untrained encoder/pooled/logistic/shape/auc".
TABLES: Mapping[str, tuple[str, ...]] = {
    "probe.csv": ("row", "features", "probe", "family", "metric"),
    "foils.csv": ("scorer", "row", "prior", "exponent", "per", "kind", "metric"),
    "retrieval.csv": ("scorer", "direction", "exponent", "per", "k"),
}

_Key = tuple[int, str, str]  # step, evaluator, metric
_Value = tuple[_Key, float]


def write(workdir: epath.Path) -> int:
    """Writes the file anew, of all runs that lie in the workdir of a comparison; returns the number of its lines.

    Where nothing was measured nothing is written.
    """
    rows = []
    folders = [folder for folder in workdir.glob("runs/*/seed*") if folder.name.removeprefix("seed").isdecimal()]
    for folder in sorted(folders, key=_place):  # others were set aside by hand
        if (folder / loop.CONFIG_FILE).exists():
            rows += [[folder.parent.name, _seed(folder), *row] for row in _rows(folder)]
    if not rows:
        return 0
    written = workdir / f".{RESULTS_FILE}.{os.getpid()}"  # a report may be made beside a comparison at work
    tables.write_csv(written, HEADER, rows)
    written.replace(workdir / RESULTS_FILE)
    return len(rows)


def _rows(folder: epath.Path) -> Iterator[list[tables.Cell]]:
    lines = read(folder)
    cost = costs.of(folder, lines)
    evaluators = sequence.stored_config(folder).evaluators
    measured = dict(_logged(lines)) | dict(_evaluated(folder))
    measured |= dict(_trends(measured)) | dict(_tabled(folder))
    for (step, evaluator, metric), value in measured.items():
        # Of an evaluator that an earlier config had, no one knows the split.
        split = _split(evaluators[evaluator]) if evaluator in evaluators else ""
        spent = [step * cost.batch_size, step * cost.flops_per_step, cost.seconds(step)]
        yield [step, *spent, evaluator, split, metric, value]


def _logged(lines: list[dict[str, Any]]) -> Iterator[_Value]:
    for line in lines:
        for key, value in line.items():
            evaluator, slash, metric = key.partition("/")
            if slash and evaluator != "train" and value is not None:
                yield (line["step"], evaluator, metric), value


def _evaluated(folder: epath.Path) -> Iterator[_Value]:
    for step, path in evaluations.files(folder, VALUES_FILE):
        for metric, value in (files.read_json(path) or {}).items():
            if value is not None:
                yield (step, path.parent.name, metric), value


def _trends(measured: Mapping[_Key, float]) -> Iterator[_Value]:
    """What the last third of a caption has more than the first."""
    for (step, evaluator, metric), value in measured.items():
        name, slash, third = metric.rpartition("/")
        first = measured.get((step, evaluator, f"{name}/first_third"))
        if slash and third == "last_third" and first is not None:
            yield (step, evaluator, f"{name}/last_less_first"), value - first


def _tabled(folder: epath.Path) -> Iterator[_Value]:
    for name, columns in TABLES.items():
        for step, path in evaluations.files(folder, name):
            for line in tables.read_csv(path):
                metric = "/".join(line[column] for column in columns if line[column])
                yield (step, path.parent.name, metric), float(line["value"])


def _split(section: sections.Evaluator) -> str:
    return (section.test or "test") if isinstance(section, sections.LinearProbe) else section.split


def _seed(folder: epath.Path) -> int:
    return int(folder.name.removeprefix("seed"))


def _place(folder: epath.Path) -> tuple[str, int]:
    return folder.parent.name, _seed(folder)
