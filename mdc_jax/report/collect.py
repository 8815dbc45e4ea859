"""Joins the linear probes of several runs into one table, with intervals over runs.

    python -m mdc_jax.report.collect --csv=probes.csv "mdc=runs/seed*" "permuted captions=runs/permuted*"

Each argument is NAME=GLOB of workdirs: the trained encoders of those runs become the row NAME, over
seeds. The other rows (chance, raw pixels, untrained encoder) are those of the first argument. Beside
the CSV lies the same as Markdown.
"""

import glob
from collections.abc import Iterable, Sequence

import numpy as np
import scipy.stats
from absl import app, flags
from etils import epath

from mdc_jax.report import probe_tables, tables

_CSV = flags.DEFINE_string("csv", None, "CSV file to write; the Markdown beside it ends in .md.", required=True)

_TRAINED = "trained encoder"
_KEY = ("family", "bound", "row", "features", "metric")
HEADER = (*_KEY, "value", "low", "high", "runs", "interval")


def latest_probe(workdir: epath.Path) -> list[dict[str, str]]:
    """The lines of the last `probe.csv` of a run; raises FileNotFoundError where there is none."""
    files = [path for path in workdir.glob("evaluations/*/*/probe.csv") if path.parent.parent.name.isdigit()]
    if not files:
        raise FileNotFoundError(f"{workdir} has no evaluations/<step>/*/probe.csv: run its linear probe first")
    return tables.read_csv(max(files, key=lambda path: int(path.parent.parent.name)))


def collect(groups: Sequence[tuple[str, Sequence[Iterable[dict[str, str]]]]]) -> list[list[tables.Cell]]:
    """Rows of HEADER from (name, the probe lines of each of its runs), in order of first mention.

    The value is the mean over runs. The interval is Student's t over runs where they differ, else
    (one run, or a row without a seed) the mean of those over test examples.
    """
    found: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for position, (name, runs) in enumerate(groups):
        for lines in runs:
            for line in lines:
                if line["row"] != _TRAINED and position > 0:
                    continue
                line = line | {"row": name if line["row"] == _TRAINED else line["row"]}
                found.setdefault(tuple(line[column] for column in _KEY), []).append(line)
    rows = []
    for key, lines in found.items():
        values = np.array([float(line["value"]) for line in lines])
        mean, n = values.mean(), len(values)
        if np.ptp(values) > 0:
            half = scipy.stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n)
            low, high, over = max(mean - half, 0.0), min(mean + half, 1.0), "runs"
        else:
            low, high = (np.mean([float(line[column]) for line in lines]) for column in ("low", "high"))
            over = "test examples"
        rows.append([*key, float(mean), float(low), float(high), n, over])
    return rows


def main(arguments: Sequence[str]) -> None:
    groups = []
    for argument in arguments[1:]:
        name, equals, pattern = argument.partition("=")
        workdirs = [epath.Path(path) for path in sorted(glob.glob(pattern))]
        if not equals or not workdirs:
            raise app.UsageError(f"{argument!r} names no run: give NAME=GLOB, where GLOB matches workdirs")
        try:
            groups.append((name, [latest_probe(workdir) for workdir in workdirs]))
        except FileNotFoundError as error:
            raise app.UsageError(str(error)) from None
    if not groups:
        raise app.UsageError("name at least one group of runs, as NAME=GLOB")
    rows = collect(groups)
    out = epath.Path(_CSV.value)
    tables.write_csv(out, HEADER, rows)
    text = probe_tables.markdown(dict(zip(HEADER, row, strict=True)) for row in rows)
    out.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    app.run(main)
