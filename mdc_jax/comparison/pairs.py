"""What more training pairs are worth (figure 5 of arXiv 2510.26799): a line for each objective.

Entries are told apart by their training data, "data.train=subset:N:SPEC". Objectives are held against each other at
equal N, and each against itself at its largest and its smallest.
"""

import numpy as np
from etils import epath

from mdc_jax.comparison import headlines
from mdc_jax.comparison.findings import Findings, Values, setting
from mdc_jax.comparison.headlines import Task, said
from mdc_jax.comparison.significance import Difference, paired
from mdc_jax.data.sources import subset
from mdc_jax.report import panels
from mdc_jax.report.document import Block, Heading, Picture, Table
from mdc_jax.report.intervals import mean_and_interval

Lines = dict[str, dict[int, str]]  # by objective and number of pairs, the entry


def lines(found: Findings) -> Lines:
    """Objectives, with what else is set of them, and their entries; those of one number of pairs alone are no line."""
    every: Lines = {}
    for entry in found.plan["entries"]:
        kind, _, rest = setting(entry, "data.train").partition(":")
        count = subset.count_of(rest.partition(":")[0])
        if kind == "subset" and count and entry["name"] in found.entries and entry["name"] not in found.controls:
            others = [text for text in entry["settings"] if not text.startswith(("data.train=", "evaluators."))]
            every.setdefault(" ".join([entry["objective"], *others]), {})[count] = entry["name"]
    return {name: dict(sorted(line.items())) for name, line in every.items() if len(line) > 1}


def growth(found: Findings, values: Values) -> dict[str, Difference]:
    """By objective, and the numbers in words: its values of the most pairs less those of the fewest, paired by seed."""
    differences = {}
    for name, line in lines(found).items():
        fewest, *_, most = line
        difference = _paired(values, line[most], line[fewest])
        if difference:
            differences[f"{name}: {most:,} less {fewest:,} pairs"] = difference
    return differences


def blocks(found: Findings, folder: epath.Path) -> list[Block]:
    """The part of a report on numbers of pairs, with figures in `folder`; nothing where a comparison has none."""
    every = lines(found)
    if not every:
        return []
    pictures: list[Block] = []
    rows = []
    for number, task in enumerate(headlines.decisive(found)):
        values = headlines.answers(found, task)
        pictures.append(_picture(every, values, task, f"pairs_{number}", folder))
        grown = [("", *one) for one in growth(found, values).items()]
        for count, words, difference in [*_at_equal_pairs(every, values), *grown]:
            rows.append([task.name, count, words, said(difference), str(difference.seeds)])
    caption = (
        "Differences at equal numbers of training pairs, and from the fewest to the most of one objective, paired by "
        "seed, without any claim: of so many intervals some exclude 0 by chance."
    )
    table = Table("pairs", caption, ["task", "pairs", "difference", "mean [95% interval]", "seeds"], rows)
    return [Heading("Numbers of training pairs"), *pictures, table]


def _at_equal_pairs(every: Lines, values: Values) -> list[tuple[str, str, Difference]]:
    (first, own), *others = every.items()
    differences = []
    for name, line in others:
        for count in own.keys() & line.keys():
            difference = _paired(values, own[count], line[count])
            if difference:
                differences.append((count, f"{first} less {name}", difference))
    return [(f"{count:,}", *rest) for count, *rest in sorted(differences, key=lambda row: row[:2])]


def _paired(values: Values, first: str, other: str) -> Difference | None:
    own, theirs = values.get(first, {}), values.get(other, {})
    return paired(own, theirs) if own.keys() & theirs.keys() else None


def _picture(every: Lines, values: Values, task: Task, name: str, folder: epath.Path) -> Picture:
    drawn = {}
    for objective, line in every.items():
        points = [
            (count, *np.clip(mean_and_interval(list(values[entry].values())), 0, 1))
            for count, entry in line.items()
            if entry in values
        ]
        if points:
            drawn[objective] = np.array(points)
    svg = panels.save(panels.with_intervals(drawn, "training pairs", task.name), folder / f"{name}.svg")
    return Picture(name, svg, f"{task.name} by number of training pairs, with 95% intervals over seeds")
