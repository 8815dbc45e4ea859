"""The few questions that a comparison answers, and what may be said of them together."""

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mdc_jax.comparison.findings import Findings, Measure, Point, Values
from mdc_jax.comparison.significance import Difference, holm, paired, verdict
from mdc_jax.report import probe_tables, tables

Curves = Mapping[str, Mapping[int, tuple[Point, ...]]]  # by entry and seed


class Task(NamedTuple):
    """A question, and the measures whose mean answers it; all are shares, better where they are higher."""

    name: str
    measures: tuple[Measure, ...]


class Claim(NamedTuple):
    """What may be said of the first entry beside another."""

    task: str
    other: str
    difference: Difference
    adjusted_p: float  # Holm, over all claims
    verdict: str


def tasks(findings: Findings) -> list[Task]:
    """The tasks that the evaluators of a comparison measured."""
    found = []
    for evaluator, paths in findings.files("probe.csv").items():
        lines = [line for path in paths.values() for line in tables.read_csv(path)]
        for bound, name in probe_tables.TITLES.items():
            families = {line["family"] for line in lines if line["bound"] == str(bound)}
            found.append((f"{evaluator}: {name}", "probe.csv", evaluator, families))
    for evaluator in findings.files("captions.jsonl"):
        found.append((f"{evaluator}: every claim right", "captions.jsonl", evaluator, {"right"}))
    for evaluator, paths in findings.files("foils.csv").items():
        lines = [line for path in paths.values() for line in tables.read_csv(path)]
        # Of two images, so that what knows only the text is right half of the time.
        kinds = {f"{line['kind']}/accuracy" for line in lines if line["images"] == "2"}
        found.append((f"{evaluator}: foils, both directions", "foils.csv", evaluator, kinds))
    for evaluator in findings.files("retrieval.csv"):
        first = {"image_to_text/recall_1"}
        found.append((f"{evaluator}: caption found at once", "retrieval.csv", evaluator, first))
    every = []
    for name, file, evaluator, metrics in found:
        own = (measure for measure in findings.measures(file) if measure.evaluator == evaluator)
        measures = tuple(measure for measure in own if measure.metric in metrics)
        if measures:
            every.append(Task(name, measures))
    return every


def answers(findings: Findings, task: Task) -> dict[str, dict[int, float]]:
    """By entry and seed, the mean over a task's measures when the runs ended; without entries that lack one."""
    return {
        entry: {seed: points[-1].value for seed, points in seeds.items()}
        for entry, seeds in curves(findings, task).items()
    }


def curves(findings: Findings, task: Task) -> Curves:
    """By entry and seed, the mean over a task's measures at every step that has them all."""
    every = [findings.curves[measure] for measure in task.measures]
    found: dict[str, dict[int, tuple[Point, ...]]] = {}
    for entry in findings.entries:
        for seed in every[0].get(entry, {}):
            lines = [measure.get(entry, {}).get(seed, ()) for measure in every]
            by_step = [{point.step: point for point in line} for line in lines]
            shared = sorted(set.intersection(*map(set, by_step)))
            if shared:
                found.setdefault(entry, {})[seed] = tuple(
                    by_step[0][step]._replace(value=statistics.fmean(points[step].value for points in by_step))
                    for step in shared
                )
    return found


def claims(findings: Findings) -> list[Claim]:
    """The first entry beside its comparators, for every task; p values are adjusted over all of them."""
    found = []
    comparators = _comparators(findings)
    for task in decisive(findings):
        differences = to_first(findings, answers(findings, task))
        found += [(task.name, other, differences[other]) for other in comparators if other in differences]
    adjusted = holm([difference.p for _, _, difference in found])
    return [Claim(*claim, p, verdict(claim[2], p)) for claim, p in zip(found, adjusted, strict=True)]


def _comparators(findings: Findings) -> Sequence[str]:
    """One entry of each objective but the first entry's, the first of it that was run; where there is no more than one
    other objective, all of its entries, and where there is none, variants of the first entry.

    The more claims are made together, the clearer each has to be.
    """
    objectives = {entry["name"]: entry["objective"] for entry in findings.plan["entries"]}
    found: dict[str, list[str]] = {}
    for other in findings.others:
        if objectives[other] != objectives[findings.entries[0]] and other in findings.entries:
            found.setdefault(objectives[other], []).append(other)
    if len(found) > 1:
        return tuple(others[0] for others in found.values())
    return tuple(*found.values()) or findings.others


def decisive(findings: Findings) -> list[Task]:
    """The tasks without those of a probe that watches the course of training, where another measures its end."""
    found, evaluators = tasks(findings), findings.plan.get("evaluators", {})
    probes = {task.measures[0].evaluator for task in found if task.measures[0].file == "probe.csv"}
    at_end = {name for name in probes if evaluators.get(name, {}).get("every") == "end"} or probes
    return [task for task in found if task.measures[0].evaluator in at_end or task.measures[0].file != "probe.csv"]


def to_first(findings: Findings, values: Values) -> dict[str, Difference]:
    """The first entry less each that it is held against, as far as both have a value of one seed."""
    first = findings.entries[0]
    return {
        other: paired(values[first], values[other])
        for other in findings.others
        if values.get(first, {}).keys() & values.get(other, {}).keys()
    }


def said(difference: Difference) -> str:
    """A difference in words that take no side."""
    if difference.seeds == 1:
        return f"{difference.mean:+.3f} (one seed: no interval)"
    interval = f"{difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"
    if difference.low == difference.high:
        return f"{difference.mean:+.3f} (the same for all seeds)"
    return f"{interval}, interval {'excludes' if difference.low > 0 or difference.high < 0 else 'contains'} 0"
