"""Training and held-out loss of runs against steps, from the `metrics.jsonl` that they left behind."""

import statistics
from collections.abc import Mapping, Sequence

from etils import epath

from mdc_jax.report import metrics_file, tables
from mdc_jax.report.intervals import mean_and_interval

HEADER = ("row", "step", "loss", "value", "low", "high", "runs")
TRAIN, HELD_OUT = "train", "held out"

Losses = Mapping[tuple[int, str], float]  # (step, TRAIN or HELD_OUT) → loss, in order of steps


def of_run(workdir: epath.Path, evaluator: str = "held_out") -> Losses:
    """Both losses at the steps where `evaluator` ran; that of training is the mean of its lines since the last one.

    A step before the first line of training has none of that kind; nan is a loss that was not finite.

    Raises:
        FileNotFoundError: `evaluator` has not run.
    """
    found: dict[tuple[int, str], float] = {}
    since: list[float] = []
    for line in map(metrics_file.with_nan, metrics_file.read(workdir)):
        if "train/loss" in line:
            since.append(line["train/loss"])
        if (loss := line.get(f"{evaluator}/loss")) is None:
            continue
        if since:
            found[line["step"], TRAIN] = statistics.fmean(since)
        found[line["step"], HELD_OUT] = loss
        since = []
    if not found:
        raise FileNotFoundError(
            f"{workdir} has no {evaluator}/loss in {metrics_file.METRICS_FILE}: let it run, or name one by --evaluator"
        )
    return found


def collect(groups: Sequence[tuple[str, Sequence[Losses]]]) -> list[list[tables.Cell]]:
    """Rows of HEADER from (name, the losses of each of its runs): means, with Student's t intervals over the runs.

    The interval of a single run is nothing but its value.
    """
    rows: list[list[tables.Cell]] = []
    for name, runs in groups:
        keys = sorted({key for run in runs for key in run}, key=lambda key: (key[0], key[1] == HELD_OUT))
        for step, loss in keys:
            values = [run[step, loss] for run in runs if (step, loss) in run]
            rows.append([name, step, loss, *mean_and_interval(values), len(values)])
    return rows


def markdown(rows: Sequence[Sequence[tables.Cell]]) -> str:
    """Rows of HEADER as a table: a line for each name and step."""
    return tables.grid({(f"{row[0]}, step {row[1]:,}", str(row[2])): tables.interval(*row[3:6]) for row in rows})
