"""Joins the results of several runs into one table, with intervals over runs.

    python -m mdc_jax.report.collect --csv=probes.csv "mdc=runs/seed*" "permuted captions=runs/permuted*"
    python -m mdc_jax.report.collect --table=metrics --csv=metrics.csv "mdc=runs/seed*"
    python -m mdc_jax.report.collect --table=losses --csv=losses.csv "mdc=runs/seed*"

Each argument is NAME=GLOB of workdirs. Of linear probes, the trained encoders of those runs become the
row NAME, over seeds; the other rows (chance, raw pixels, untrained encoder) are those of the first
argument. Metrics are what the runs printed when they ended, a row each. Losses are those of training and of
held-out examples, at the steps where there are both. Beside the CSV lies the same as Markdown.
"""

import functools
import glob
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from absl import app, flags
from etils import epath

from mdc_jax import command
from mdc_jax.config import ConfigError
from mdc_jax.report import evaluations, losses, metrics_file, probe_tables, tables
from mdc_jax.report.intervals import mean_and_interval
from mdc_jax.report.probe_tables import TRAINED

_SHOWN = 1e-3  # what a table shows; a row without a seed differs between runs by rounding
_KEY = ("family", "bound", "row", "features", "probe", "metric")
HEADER = (*_KEY, "value", "low", "high", "runs", "interval")
METRICS_HEADER = ("metric", "row", "value", "low", "high", "runs")


def latest_probe(workdir: epath.Path, evaluator: str = "probe") -> list[dict[str, str]]:
    """The lines of a run's last `probe.csv` of this evaluator; raises FileNotFoundError where there is none."""
    found = evaluations.last(workdir, "probe.csv")
    if evaluator not in found:
        raise FileNotFoundError(
            f"{workdir} has no {evaluations.FOLDER}/<step>/{evaluator}/probe.csv: run that probe first"
        )
    return tables.read_csv(found[evaluator])


def collect(groups: Sequence[tuple[str, Sequence[Iterable[dict[str, str]]]]]) -> list[list[tables.Cell]]:
    """Rows of HEADER from (name, the probe lines of each of its runs), in order of first mention.

    The value is the mean over runs. The interval is Student's t over runs; of one run, and of rows without a
    seed, which differ by less than a table shows, the mean of those over test examples.
    """
    trained = {name for name, _ in groups}
    found: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for position, (name, runs) in enumerate(groups):
        for lines in runs:
            for line in lines:
                if line["row"] != TRAINED and position > 0:
                    continue
                line = {"probe": "logistic"} | line | {"row": name if line["row"] == TRAINED else line["row"]}
                found.setdefault(tuple(line[column] for column in _KEY), []).append(line)
    rows = []
    for key, lines in found.items():
        values = [float(line["value"]) for line in lines]
        mean, low, high = mean_and_interval(values)
        over = "runs"
        if len(values) == 1 or (key[_KEY.index("row")] not in trained and np.ptp(values) < _SHOWN):
            low, high = (float(np.mean([float(line[column]) for line in lines])) for column in ("low", "high"))
            over = "test examples"
        rows.append([*key, mean, max(low, 0.0), min(high, 1.0), len(lines), over])
    return rows


def latest_results(workdir: epath.Path) -> dict[str, float]:
    """What a finished run printed; raises FileNotFoundError where it has not finished."""
    ended = metrics_file.read_results(workdir)
    if ended is None:
        raise FileNotFoundError(f"{workdir} has no readable {metrics_file.RESULTS_FILE}: let the run finish first")
    return ended[1]


def collect_metrics(groups: Sequence[tuple[str, Sequence[Mapping[str, float]]]]) -> list[list[tables.Cell]]:
    """Rows of METRICS_HEADER from (name, the results of each of its runs), in order of first mention."""
    found: dict[tuple[str, str], list[float]] = {}
    for name, runs in groups:
        for results in runs:
            for metric, value in results.items():
                found.setdefault((metric, name), []).append(value)
    return [[*key, *mean_and_interval(values), len(values)] for key, values in found.items()]


def main(arguments: Sequence[str]) -> None:
    table, evaluator, out = flags.FLAGS.table, flags.FLAGS.evaluator, command.place("csv", flags.FLAGS.csv)
    if not out:
        raise ConfigError("name a file, as in --csv=probes.csv")
    read = {
        "probes": functools.partial(latest_probe, evaluator=evaluator or "probe"),
        "metrics": latest_results,
        "losses": functools.partial(losses.of_run, evaluator=evaluator or "held_out"),
    }[table]
    groups = []
    for argument in arguments[1:]:
        name, equals, pattern = argument.partition("=")
        workdirs = [epath.Path(path) for path in sorted(glob.glob(pattern))]
        if not equals or not workdirs:
            raise ConfigError(f"{argument!r} names no run: give NAME=GLOB, where GLOB matches workdirs")
        groups.append((name, [read(workdir) for workdir in workdirs]))
    if not groups:
        raise ConfigError("name at least one group of runs, as NAME=GLOB")
    if table == "probes":
        header, rows = HEADER, collect(groups)
        text = probe_tables.markdown(dict(zip(HEADER, row, strict=True)) for row in rows)
    elif table == "metrics":
        header, rows = METRICS_HEADER, collect_metrics(groups)
        text = tables.grid({(str(row[0]), str(row[1])): tables.interval(*row[2:5]) for row in rows})
    else:
        header, rows = losses.HEADER, losses.collect(groups)
        text = losses.markdown(rows)
    tables.write_csv(out, header, rows)
    out.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    flags.DEFINE_enum("table", "probes", ["probes", "metrics", "losses"], "What to join.")
    flags.DEFINE_string(
        "evaluator", None, "The linear probe, or the held-out loss, by its name in the runs' config (probe, held_out)."
    )
    flags.DEFINE_string("csv", None, "CSV file to write; the Markdown beside it ends in .md.", required=True)
    app.run(command.reported(main, FileNotFoundError), flags_parser=command.parse_arguments)
