"""What evaluators measured by the share that is masked, and by the position of a token: a line for each run."""

from collections.abc import Mapping

import numpy as np
from etils import epath

from mdc_jax.comparison.findings import Findings, Run
from mdc_jax.report import panels, tables
from mdc_jax.report.document import Block, Picture

# Tables whose lines are parts of the tokens: the file, the column that names a part, and those that are drawn.
_PARTS = (
    ("masked_share.csv", "masked_share", ("nats_per_token",)),
    ("position_signal.csv", "position", ("signal", "gradient")),
)


def blocks(found: Findings, folder: epath.Path) -> list[Block]:
    """A figure for each evaluator and column, which is written to `folder`."""
    every: list[Block] = []
    for file, x, columns in _PARTS:
        for evaluator, paths in found.files(file).items():
            for y in columns:
                name = f"{evaluator}_{y}_by_{x}"
                figure = panels.curves({x.replace("_", " "): curves(paths, x, y)}, y.replace("_", " "))
                svg = panels.save(figure, folder / f"{name}.svg")
                every.append(Picture(name, svg, f"{evaluator}: {y} by {x}".replace("_", " ")))
    return every


def curves(paths: Mapping[Run, epath.Path], x: str, y: str) -> panels.Curves:
    """The tables of runs as lines by entry; by position, of all masked shares together."""
    found: dict[str, list[np.ndarray]] = {}
    for run, path in paths.items():
        lines = [line for line in tables.read_csv(path) if x != "position" or line["masked_share"] == "all"]
        found.setdefault(run.entry, []).append(np.array([[float(line[x]), float(line[y])] for line in lines]))
    return found
