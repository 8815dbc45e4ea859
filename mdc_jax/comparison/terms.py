"""On which terms entries were compared, and how to get any number again: what a plan says, as tables."""

import collections
import json
import shlex
import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from mdc_jax.comparison.findings import Findings
from mdc_jax.report import evaluations
from mdc_jax.report.document import Table

_COSTS = ("parameters", "images", "GFLOP an image")


def tables_of(findings: Findings) -> list[Table]:
    """Entries with their settings, the learning rates that were tried, and what all was run with."""
    return [_entries(findings), _learning_rates(findings), _provenance(findings.plan)]


def _entries(findings: Findings) -> Table:
    rows = [
        [
            entry["name"],
            entry["objective"],
            " ".join(entry["settings"]),
            _seeds(findings, entry["name"]),
            _steps(findings, entry),
            *_costs(findings, entry),
            f"{entry['learning_rate']:g} ({entry.get('learning_rate_source', '')})",
        ]
        for entry in findings.plan["entries"]
    ]
    header = ["entry", "objective", "settings", "seeds", "steps", *_COSTS, "learning rate"]
    caption = (
        "What is compared; everything else is equal. Steps as in 6000 (3000 first): runs that had ended and were "
        "trained on, whose learning rate had come to its end and rose again. FLOPs are those of the matrix products."
    )
    return Table("entries", caption, header, rows)


def _seeds(findings: Findings, entry: str) -> str:
    diverged = [run["seed"] for run in findings.plan["runs"] if run["entry"] == entry and run.get("diverged")]
    there = [run.seed for run in findings.runs if run.entry == entry and run.seed not in diverged]
    return " ".join([*map(str, there), *(f"{seed} (diverged)" for seed in diverged)]) or "not run yet"


def _steps(findings: Findings, entry: Mapping[str, Any]) -> str:
    """How many, and how many its runs were to have when they were started first, where these were others."""
    starts = [
        start for run in findings.plan["runs"] if run["entry"] == entry["name"] for start in run.get("starts", ())
    ]
    steps = entry.get("trained_steps")
    first = sorted({start["steps"] for start in starts if "steps" in start} - {steps}) if steps else []
    return str(steps or "") + (f" ({', '.join(map(str, first))} first)" if first else "")


def _costs(findings: Findings, entry: Mapping[str, Any]) -> list[str]:
    """The numbers of _COSTS, of training; the mean over seeds."""
    name, parameters = entry["name"], entry.get("parameters")
    ends = [points[-1] for by_entry in findings.curves.values() for points in by_entry.get(name, {}).values()]
    if not ends:
        return [f"{parameters:,}" if parameters else "", "", ""]
    images, flops = (statistics.fmean(getattr(point, cost) for point in ends) for cost in ("examples", "flops"))
    return [f"{parameters:,}" if parameters else "", f"{images:,.0f}", f"{flops / images / 1e9:.3g}"]


def _learning_rates(findings: Findings) -> Table:
    """The mean probe of the validation split by learning rate, and which was taken."""
    tuned = {entry["name"]: entry["tuning"] for entry in findings.plan["entries"] if entry.get("tuning")}
    rates = sorted({rate for choice in tuned.values() for rate in choice["grid"]}, key=float)
    rows = []
    for name, choice in tuned.items():
        cells = []
        for rate in rates:
            score = choice["grid"].get(rate, "")
            text = "diverged" if score is None else f"{score:.4f}" if score != "" else ""
            cells.append(f"{text} (taken)" if float(rate) == choice["chosen"] else text)
        at_edge = "the best is at the edge of what was tried" if choice["at_edge"] else ""
        rows.append([name, *cells, " ".join(map(str, choice["seeds"])), at_edge])
    caption = "Learning rates: the mean probe of the validation split, of seeds that are not reported."
    return Table("learning_rates", caption, ["", *rates, "seeds", ""], rows)


def _provenance(plan: Mapping[str, Any]) -> Table:
    rows = []
    for key in ("config", "overrides", "base", "budget", "settings", "data"):
        if key in plan:
            rows += [[name, value] for name, value in _flat(key, plan[key])]
    started = [run["starts"] for run in plan["runs"] if run.get("starts")]
    for key in ("code", "hardware"):
        of_runs = collections.Counter(
            text for starts in started for text in {json.dumps(start[key], sort_keys=True) for start in starts}
        )
        rows += [[f"{key} (runs: {count})", text] for text, count in sorted(of_runs.items())]
        rows += [[f"{key}, of this report", json.dumps(plan[key], sort_keys=True)]] if key in plan else []
    return Table("provenance", "Code, hardware and data.", ["", ""], rows)


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(f"{name}: {key}", inner)
    else:
        yield name, value if isinstance(value, str) else json.dumps(value)


def commands(findings: Findings) -> Table:
    """A cell of a row ENTRY is made by the commands of its seeds; the evaluators of a run can be run by themselves."""
    rows = []
    for run in findings.runs:
        rows.append([run.entry, str(run.seed), "all", run.command])
        for evaluator in sorted({path.name for path in run.folder.glob(f"{evaluations.FOLDER}/*/*")}):
            command = ["python", "-m", "mdc_jax.evaluate", f"--workdir={run.folder}", f"--evaluator={evaluator}"]
            rows.append([run.entry, str(run.seed), evaluator, shlex.join(command)])
    caption = (
        "Commands. The one of `all` trains and evaluates a run from nothing (DIR is yours); the others measure again "
        "what a table of that evaluator says of the run in its folder. A cell is the mean over the seeds of its row."
    )
    return Table("commands", caption, ["entry", "seed", "tables", "command"], rows)
