"""What a comparison has left behind, as reports read it: `plan.json`, `results.csv` and the files of evaluations."""

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from etils import epath

from mdc_jax import files
from mdc_jax.comparison import sequence
from mdc_jax.comparison.collect import RESULTS_FILE
from mdc_jax.comparison.entries import total_steps
from mdc_jax.comparison.plan import PLAN_FILE, entry_terms, terms
from mdc_jax.config import ConfigError
from mdc_jax.report import evaluations, tables
from mdc_jax.training import compatibility

# An evaluator is known by a file that it writes. From the names of its metrics, what is comparable between objectives,
# of which each has its own scorers: of an objective with several the first one counts.
MEASURES: Mapping[str, re.Pattern[str]] = {
    name: re.compile(pattern)
    for name, pattern in {
        "probe.csv": r"([^/]+(?:/[^/]+)?)",  # a family, and the kind of probe; what has more is of the table
        "captions.jsonl": r"(distinct|grammatical|right|right_without_repeats|shuffled/right"
        r"|precision/.+|recall(?:/.+)?|(?:shuffled/)?(?:bleu_\d|meteor|rouge_l|cider))",
        "foils.csv": r"(?:(\w+)/)?\w+/(accuracy)",
        "perplexity.csv": r"\w+/(per_token|per_caption)",
        "retrieval.csv": r"\w+/(\w+/recall_\d+)",
        "position_signal.csv": r"(.+)",
    }.items()
}

Values = Mapping[str, Mapping[int, float]]  # by entry and seed


class Measure(NamedTuple):
    """What is measured: the evaluator, the file that it is known by, and the metric without the name of a scorer."""

    evaluator: str
    file: str
    metric: str


class Point(NamedTuple):
    """A value of a run, and what training had cost until then."""

    step: int
    examples: float
    flops: float
    seconds: float
    value: float


@dataclasses.dataclass(frozen=True)
class Run:
    entry: str
    seed: int
    folder: epath.Path
    command: str  # that trains and evaluates it
    step: int  # at which it ended


@dataclasses.dataclass(frozen=True)
class Findings:
    """Of the runs that are finished; `curves` are by measure, entry and seed, in the order of steps."""

    plan: Mapping[str, Any]
    runs: tuple[Run, ...]
    curves: Mapping[Measure, Mapping[str, Mapping[int, tuple[Point, ...]]]]

    @functools.cached_property
    def entries(self) -> tuple[str, ...]:
        """The names of those that have a finished run, in the order of the plan; differences are to the first."""
        there = {run.entry for run in self.runs}
        return tuple(entry["name"] for entry in self.plan["entries"] if entry["name"] in there)

    @functools.cached_property
    def controls(self) -> frozenset[str]:
        """Entries of which nothing is claimed: what others are held against, as a decoder without images."""
        return frozenset(entry["name"] for entry in self.plan["entries"] if entry["control"])

    @functools.cached_property
    def others(self) -> tuple[str, ...]:
        """Entries that the first one is held against: no controls, and of the same training pairs."""
        data = {entry["name"]: setting(entry, "data.train") for entry in self.plan["entries"]}
        first = self.entries[0]
        return tuple(name for name in data if name != first and name not in self.controls and data[name] == data[first])

    def last(self, measure: Measure) -> dict[str, dict[int, float]]:
        """The values of a measure when the runs ended."""
        found = self.curves.get(measure, {})
        return {entry: {seed: points[-1].value for seed, points in seeds.items()} for entry, seeds in found.items()}

    def measures(self, file: str) -> tuple[Measure, ...]:
        """The measures of the evaluators that write this file."""
        return tuple(measure for measure in self.curves if measure.file == file)

    def files(self, name: str) -> dict[str, dict[Run, epath.Path]]:
        """By evaluator, the file of this name that each run has of its end."""
        found: dict[str, dict[Run, epath.Path]] = {}
        for run in self.runs:
            for evaluator, path in evaluations.at(run.folder, run.step, name).items():
                found.setdefault(evaluator, {})[run] = path
        return found


def setting(entry: Mapping[str, Any], key: str) -> str:
    """What an entry of a plan sets a key to; "" where it leaves it."""
    return next((text.removeprefix(f"{key}=") for text in entry["settings"] if text.startswith(f"{key}=")), "")


def _decisive(settings: Sequence[str]) -> list[str]:
    """KEY=VALUE settings without those that any resume may change, but for evaluators', which say what is measured."""
    keys = {text: text.partition("=")[0] for text in settings}
    return sorted(t for t, key in keys.items() if key.startswith("evaluators.") or not compatibility.is_free(key))


def differ(found: Findings, other: Findings) -> list[str]:
    """The terms in which two comparisons on different data differ; training pairs of an entry are data too, and what
    any resume may change is no term."""

    def of(plan: Mapping[str, Any]) -> dict[str, Any]:
        steps = {entry["name"]: entry.get("steps") for entry in plan["entries"]}
        entries = {
            f"entries.{name}": (objective, _decisive(settings), steps[name])
            for name, (objective, settings) in entry_terms(plan).items()
        }
        return {**terms(plan), "settings": _decisive(plan.get("settings", ())), **entries}

    own, others = of(found.plan), of(other.plan)
    return [key for key in {**own, **others} if own.get(key) != others.get(key)]


def read(workdir: epath.Path) -> Findings:
    """Reads the workdir of a comparison; raises ConfigError where it is none.

    Runs that are not at the last step of their entry are left out, and those whose evaluation was not ended there: they
    were trained for less than the others, or measured in part.
    """
    plan = files.read_json(workdir / PLAN_FILE)
    for name, there in ((PLAN_FILE, plan is not None), (RESULTS_FILE, (workdir / RESULTS_FILE).exists())):
        if not there:
            raise ConfigError(f"{workdir} has no {name}: give the --workdir of `python -m mdc_jax.compare`")
    lines = tables.read_csv(workdir / RESULTS_FILE)
    steps: dict[tuple[str, int], int] = {}
    for line in lines:
        key = line["entry"], int(line["seed"])
        steps[key] = max(steps.get(key, 0), int(line["step"]))
    entries = {entry["name"]: entry for entry in plan["entries"]}
    finished = []
    for planned in plan["runs"]:
        entry, seed, folder = planned["entry"], int(planned["seed"]), workdir / planned["folder"]
        ended = sequence.ended_at(folder)
        if (entry, seed) in steps and ended == _last_step(plan, entries[entry], folder):
            finished.append(Run(entry, seed, folder, planned["command"], ended))
    places = list(entries)
    runs = tuple(sorted(finished, key=lambda run: (places.index(run.entry), run.seed)))
    return Findings(plan, runs, _curves(runs, lines, steps))


def _last_step(plan: Mapping[str, Any], entry: Mapping[str, Any], folder: epath.Path) -> int:
    """The step at which the runs of an entry end."""
    budget = plan["budget"]
    equal = entry.get("steps") or budget["steps"] if budget["equal"] == "steps" else 0
    # A part knows no FLOPs or seconds of the entries of others, and base configs may say how long a run is.
    planned = entry.get("trained_steps") or equal
    return planned or total_steps(sequence.stored_config(folder))


def _curves(
    runs: tuple[Run, ...], lines: list[dict[str, str]], steps: Mapping[tuple[str, int], int]
) -> dict[Measure, dict[str, dict[int, tuple[Point, ...]]]]:
    """Those that lead to the last of the steps of a run: others were evaluated on the way alone."""
    known = {(run.entry, run.seed): _known_by(run.folder) for run in runs}
    found: dict[Measure, dict[str, dict[int, dict[int, Point]]]] = {}
    for line in lines:
        run = line["entry"], int(line["seed"])
        file = known.get(run, {}).get(line["evaluator"])
        match = MEASURES[file].fullmatch(line["metric"]) if file else None
        if file is None or match is None:
            continue
        measure = Measure(line["evaluator"], file, "/".join(filter(None, match.groups())))
        costs = (float(line[cost]) for cost in ("examples", "flops", "seconds"))
        point = Point(int(line["step"]), *costs, float(line["value"]))
        found.setdefault(measure, {}).setdefault(run[0], {}).setdefault(run[1], {}).setdefault(point.step, point)
    curves: dict[Measure, dict[str, dict[int, tuple[Point, ...]]]] = {}
    for measure, by_entry in found.items():
        for entry, seeds in by_entry.items():
            for seed, points in seeds.items():
                if max(points) == steps[entry, seed]:
                    course = tuple(points[step] for step in sorted(points))
                    curves.setdefault(measure, {}).setdefault(entry, {})[seed] = course
    return curves


def _known_by(folder: epath.Path) -> dict[str, str]:
    """By evaluator of a run, the file of MEASURES that it writes."""
    return {evaluator: name for name in MEASURES for evaluator in evaluations.last(folder, name)}
