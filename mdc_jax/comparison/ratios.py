"""Masking ratios against one schedule (figure 4 of arXiv 2510.26799), and whether a ratio has to be tuned per data set.

The paper's claim is one of two data sets. It is said to hold only where each set's best ratio is worse on the other
set, and one schedule is nowhere worse than the best ratio by more than `MARGIN`.
"""

import statistics
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from etils import epath

from mdc_jax.comparison import headlines
from mdc_jax.comparison.findings import Findings, Values
from mdc_jax.comparison.headlines import said
from mdc_jax.comparison.significance import AS_GOOD, BETTER, MARGIN, Difference, NoSharedSeed, paired, verdict
from mdc_jax.config import ConfigError, sections
from mdc_jax.report import panels
from mdc_jax.report.document import Block, Heading, Paragraph, Picture, Table

_RATIO, _INTERVAL = "objective.ratio=", "objective.interval="


class Sweep(NamedTuple):
    """What ratios and schedules reached on one data set, by entry and seed."""

    ratios: Mapping[str, float]
    schedules: tuple[str, ...]  # masked diffusion as it is configured, and on other intervals
    values: Values

    @property
    def shared(self) -> Values:
        """Of the seeds that all of them have: what lacks a seed that is hard for all would seem better than it is."""
        names = (*self.ratios, *self.schedules)
        seeds = set.intersection(*(set(self.values[name]) for name in names))
        return {name: {seed: self.values[name][seed] for seed in sorted(seeds)} for name in names}

    @property
    def best(self) -> str:
        """The ratio with the highest mean over these seeds; raises NoSharedSeed where there are none."""
        shared = self.shared
        if not shared[self.schedules[0]]:
            raise NoSharedSeed(f"no seed is finished for all of {', '.join(shared)}: train what is missing")
        return max(self.ratios, key=lambda name: statistics.fmean(shared[name].values()))


def sweep(found: Findings) -> Sweep | None:
    """The ratios of a comparison by the mean over its first probe; None where there are fewer than two."""
    tasks = [task for task in headlines.decisive(found) if task.measures[0].file == "probe.csv"]
    values = headlines.answers(found, tasks[0]) if tasks else {}
    every = found.plan["entries"]
    settings = {e["name"]: e["settings"] for e in every if e["name"] in values and e["name"] not in found.controls}
    ratios = {
        name: float(text.removeprefix(_RATIO))
        for name, texts in settings.items()
        for text in texts
        if text.startswith(_RATIO)
    }
    first = [every[0]["name"]] if every[0]["objective"] == sections.MaskedDiffusion.name else []
    others = (name for name, texts in settings.items() if any(text.startswith(_INTERVAL) for text in texts))
    schedules = tuple(name for name in dict.fromkeys((*first, *others)) if name in settings)
    return Sweep(ratios, schedules, values) if len(ratios) > 1 and schedules else None


def cost_of_the_others_best(own: Sweep, other: Sweep) -> tuple[Difference, float]:
    """On the own set, its best ratio less the ratio that is best on the other set, and p.

    The best one was chosen by the values that are compared, so p is multiplied by the number of those that it was
    chosen from (Bonferroni).
    """
    difference = paired(own.shared[own.best], own.shared[other.best])
    return difference, min(1.0, difference.p * (len(own.ratios) - 1))


def holds(own: Sweep, other: Sweep, schedule: str) -> bool:
    """Whether the claim may be made of a schedule on these two sets."""
    tuned = all(verdict(*cost_of_the_others_best(*pair)) == BETTER for pair in ((own, other), (other, own)))
    return tuned and all(_is_enough(schedule, on) for on in (own, other))


def blocks(found: Findings, beside: Findings | None, folder: epath.Path) -> list[Block]:
    """The part of a report on ratios; nothing where a comparison has none.

    Args:
      found: a comparison.
      beside: one of the same entries on another data set; None: there is none, and so no verdict.
      folder: where figures are written.

    Raises ConfigError where the two have other ratios, and where runs that are compared have no seed in common yet.
    """
    sweeps = {_name(one): sweep(one) for one in (found, beside) if one is not None}
    if beside is None and None in sweeps.values():
        return []
    different = len({tuple((one.ratios if one else {}).items()) for one in sweeps.values()}) > 1
    if beside is not None and (len(sweeps) < 2 or None in sweeps.values() or different):
        raise ConfigError(
            f"--beside: {' and '.join(sweeps)} must be two data sets with results of the same ratios, two or more: "
            "run configs/compare_scenes.py:ratios with sentences=1 and with sentences=4"
        )
    head = [Heading("One schedule against ratios"), _picture(sweeps, folder)]
    try:
        return head if beside is None else [*head, *_claim(sweeps)]
    except NoSharedSeed as error:
        raise ConfigError(f"--beside: {error}") from error


def _claim(sweeps: Mapping[str, Sweep]) -> list[Block]:
    (name, own), (other_name, other) = sweeps.items()
    rows = []
    for label, one, two in ((name, own, other), (other_name, other, own)):
        difference, p = cost_of_the_others_best(one, two)
        words = "the same ratio" if one.best == two.best else f"{said(difference)}; p {p:.3g}"
        rows += [[label, f"{one.best}, the best here, less {two.best}, the other set's best", words]]
        for schedule in one.schedules:
            rows.append(
                [label, f"{schedule} less {one.best}", said(paired(one.shared[schedule], one.shared[one.best]))]
            )
    shared = [schedule for schedule in own.schedules if schedule in other.schedules]
    verdicts = [f"{s}: {'holds' if holds(own, other, s) else 'is not shown'}" for s in shared]
    caption = (
        "Whether a ratio has to be tuned per data set and one schedule spares that: mean over the labels of the probe, "
        "paired by seed. p of the best ratio is multiplied by the number of the others."
    )
    text = (
        f"The paper's claim that one schedule spares to tune a ratio, by schedule: {'; '.join(verdicts)}. It is said "
        "to hold only where each set's best ratio is worse on the other set and the schedule is at most "
        f"{MARGIN:g} worse than the best ratio of each set, both at 95%. The best ratio is chosen by the seeds that "
        "are compared, which favours it over the schedule."
    )
    return [Table("ratios", caption, ["data", "difference", "mean [95% interval]"], rows), Paragraph(text)]


def _is_enough(schedule: str, on: Sweep) -> bool:
    difference = paired(on.shared[schedule], on.shared[on.best])
    return verdict(difference, 1.0) == AS_GOOD


def _picture(sweeps: Mapping[str, Sweep], folder: epath.Path) -> Picture:
    figures = {}
    for name, one in sweeps.items():
        ordered = sorted(one.ratios, key=one.ratios.__getitem__)
        seeds = sorted(set.intersection(*(set(one.values[ratio]) for ratio in ordered)))
        lines = {"one ratio": [np.array([[one.ratios[r], one.values[r][seed]] for r in ordered]) for seed in seeds]}
        ends = one.ratios[ordered[0]], one.ratios[ordered[-1]]
        for schedule in one.schedules:
            lines[schedule] = [np.array([[x, value] for x in ends]) for value in one.values[schedule].values()]
        figures[f"masking ratio\n{name}"] = lines
    svg = panels.save(panels.curves(figures, "mean over the labels of the probe"), folder / "ratios.svg")
    return Picture("ratios", svg, "Fixed ratios against schedules, which are drawn as level lines")


def _name(found: Findings) -> str:
    return found.plan["base"]
