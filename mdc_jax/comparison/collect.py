"""`results.csv`: each number of every evaluation of every run, beside what training had cost until then.

The metrics are those of the run's log, as "shape", and those of the tables of its evaluators, whose names are the
columns that tell their lines apart: see `TABLES`.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

from mdc_jax.comparison import costs
from mdc_jax.config import parse, sections
from mdc_jax.report import tables
from mdc_jax.training import loop
from mdc_jax.training.metric_writer import read

RESULTS_FILE = "results.csv"
HEADER = ("entry", "seed", "step", "examples", "flops", "seconds", "evaluator", "split", "metric", "value")
# Of the tables that evaluators write: the columns that make a metric's name, as in
# "untrained encoder/pooled/logistic/shape/auc".
TABLES: Mapping[str, tuple[str, ...]] = {
    "probe.csv": ("row", "features", "probe", "family", "metric"),
    "foils.csv": ("scorer", "row", "prior", "exponent", "per", "kind", "metric"),
    "retrieval.csv": ("scorer", "direction", "exponent", "per", "k"),
}


def write(workdir: epath.Path) -> int:
    """Writes the file anew, of all runs that lie in the workdir of a comparison; returns the number of its lines."""
    rows = []
    for folder in sorted(workdir.glob("runs/*/seed*"), key=_place):
        if (folder / loop.CONFIG_FILE).exists():
            rows += [[folder.parent.name, _seed(folder), *row] for row in _rows(folder)]
    temporary = workdir / f"{RESULTS_FILE}.tmp"
    tables.write_csv(temporary, HEADER, rows)
    temporary.replace(workdir / RESULTS_FILE)
    return len(rows)


def _rows(folder: epath.Path) -> Iterator[list[tables.Cell]]:
    lines = read(folder)
    cost = costs.of(folder, lines)
    evaluators = parse(json.loads((folder / loop.CONFIG_FILE).read_text())).evaluators
    for step, evaluator, metric, value in (*_logged(lines), *_tabled(folder)):
        # Of an evaluator that an earlier config had, no one knows the split.
        split = _split(evaluators[evaluator]) if evaluator in evaluators else ""
        spent = [step * cost.batch_size, step * cost.flops_per_step, cost.seconds(step)]
        yield [step, *spent, evaluator, split, metric, value]


def _logged(lines: list[dict[str, Any]]) -> Iterator[tuple[int, str, str, float]]:
    for line in lines:
        for key, value in line.items():
            evaluator, slash, metric = key.partition("/")
            if slash and evaluator != "train" and value is not None:
                yield line["step"], evaluator, metric, value


def _tabled(folder: epath.Path) -> Iterator[tuple[int, str, str, float]]:
    for name, columns in TABLES.items():
        for path in folder.glob(f"evaluations/*/*/{name}"):
            step = path.parent.parent.name
            if step.isdigit():  # others are evaluations with other settings
                for line in tables.read_csv(path):
                    metric = "/".join(line[column] for column in columns if line[column])
                    yield int(step), path.parent.name, metric, float(line["value"])


def _split(section: sections.Evaluator) -> str:
    return (section.test or "test") if isinstance(section, sections.LinearProbe) else section.split


def _seed(folder: epath.Path) -> int:
    return int(folder.name.removeprefix("seed"))


def _place(folder: epath.Path) -> tuple[str, int]:
    return folder.parent.name, _seed(folder)
