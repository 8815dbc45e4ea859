"""Whether the place of a word matters: one comparison on captions that state the background first, and last.

The paper argues (arXiv 2510.26799) that a decoder that reads from left to right needs the image less the more words it
has read, and that a masked one needs it at every position. Then a background that is stated last in place of first is
found worse after autoregression, and less so after masked diffusion; from right to left it is the other way round.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from mdc_jax.comparison import parts
from mdc_jax.comparison.findings import Findings, Point, Values, setting
from mdc_jax.comparison.headlines import said
from mdc_jax.comparison.significance import LEVEL, Difference, holm, paired
from mdc_jax.config import ConfigError, sections
from mdc_jax.report import panels, tables
from mdc_jax.report.document import Block, Heading, Paragraph, Picture, Table
from mdc_jax.report.intervals import mean_and_interval

AS_ARGUED, OPPOSITE, UNDECIDED = "as the paper argues", "the opposite", "not decided"
_FILE = "position_signal.csv"
_SIGNALS = (
    "signal/first_third",
    "signal/middle_third",
    "signal/last_third",
    "signal/last_less_first",
    "gradient/last_less_first",
)
_TIMES = {"early": 0, "at the end": -1}  # places in the course of the probe
_Course = Mapping[str, Mapping[int, tuple[Point, ...]]]  # by entry and seed


class Place(NamedTuple):
    """Where captions state the background, and how often they say things again."""

    redundancy: float
    background: str  # first | last

    def __str__(self) -> str:
        return f"background {self.background}, redundancy {self.redundancy:g}"


class Shift(NamedTuple):
    """The probe of the background where it is stated last, less that where it is stated first."""

    redundancy: float
    time: str
    other: str
    values: Values  # of all entries
    difference: Difference  # the first entry's less the other's
    adjusted_p: float  # Holm, over all of them
    verdict: str


def place(found: Findings) -> Place | None:
    """That of a comparison by its base config; None where captions need not state the background."""
    background = re.search(r"\bbackground=(first|last)", found.plan["base"])
    redundancy = re.search(r"\bredundancy=([\d.]+)", found.plan["base"])
    return Place(float(redundancy[1]) if redundancy else 0.0, background[1]) if background else None


def shifts(every: Mapping[Place, Findings]) -> list[Shift]:
    """The first entry beside all that read captions in another order, at each redundancy that has both places."""
    plan = next(iter(every.values())).plan
    first, *others = plan["entries"]
    found: list[tuple[float, str, str, Values, Difference, int]] = []
    for redundancy in sorted({one.redundancy for one in every}):
        ends = [every.get(Place(redundancy, background)) for background in ("first", "last")]
        if None in ends:
            continue
        for time, index in _TIMES.items():
            values = _less(*(_course(one) for one in reversed(ends)), index)
            own = values.get(first["name"], {})
            for other in others:
                theirs = values.get(other["name"], {})
                direction = _direction(other) - _direction(first)
                if direction and own.keys() & theirs.keys():
                    found.append((redundancy, time, other["name"], values, paired(own, theirs), direction))
    adjusted = holm([difference.p for *_, difference, _ in found])
    return [
        Shift(*rest, difference, p, _verdict(difference, p, direction))
        for (*rest, difference, direction), p in zip(found, adjusted, strict=True)
    ]


def blocks(every: Sequence[Findings], folder: epath.Path) -> list[Block]:
    """The part of a report on places; figures are written to `folder`.

    Raises ConfigError where the comparisons are not those of places that can be held against each other.
    """
    by_place = {place(found): found for found in every}
    different = len({_base(found) for found in every}) > 1
    if None in by_place or len(by_place) < len(every) or different or not _both(by_place):
        raise ConfigError(
            f"--beside: {' and '.join(found.plan['base'] for found in every)} must state the background first and "
            "last, at the same redundancy, each once and equal in all else: run configs/compare_scenes.py:position "
            "with background=first and with background=last"
        )
    found = shifts(by_place)
    ordered = {one: by_place[one] for one in sorted(by_place)}
    courses = {one: _steps(findings) for one, findings in ordered.items()}
    signals = {one: _signal(findings) for one, findings in ordered.items()}
    return [
        Heading("Does the place of a word matter?"),
        Paragraph(_statement(found)),
        _shift_table(found, every[0]),
        _table(ordered),
        _picture("positions_background", "steps", "probe of the background", courses, folder),
        _picture("positions_signal", "position", "nats that the image is worth", signals, folder),
    ]


def _base(found: Findings) -> str:
    """The base config but for the place, which has to be the same."""
    return re.sub(r",?(background|redundancy)=[^,]*", "", found.plan["base"])


def _both(places: Mapping[Place, Any]) -> bool:
    return any(Place(one.redundancy, "first") in places and Place(one.redundancy, "last") in places for one in places)


def _direction(entry: Mapping[str, Any]) -> int:
    """1 where an entry of a plan reads from left to right, -1 from right to left; 0 where it has no order."""
    if entry["objective"] != sections.Autoregressive.name:
        return 0
    return -1 if setting(entry, "objective.order") == "right_to_left" else 1


def _course(found: Findings) -> _Course:
    """The probe of the background, of the evaluator that watched it most often."""
    every = [
        curves
        for measure, curves in found.curves.items()
        if measure.file == "probe.csv" and measure.metric == "background"
    ]
    return max(every, key=lambda curves: sum(len(c) for seeds in curves.values() for c in seeds.values()), default={})


def _at(course: _Course, index: int) -> Values:
    return {entry: {seed: points[index].value for seed, points in seeds.items()} for entry, seeds in course.items()}


def _less(last: _Course, first: _Course, index: int) -> Values:
    """By entry and seed, at the first or the last step at which both were probed."""
    found: dict[str, dict[int, float]] = {}
    for entry, seeds in last.items():
        for seed, points in seeds.items():
            own, other = ({p.step: p.value for p in course} for course in (points, first.get(entry, {}).get(seed, ())))
            if steps := sorted(own.keys() & other.keys()):
                found.setdefault(entry, {})[seed] = own[steps[index]] - other[steps[index]]
    return found


def _verdict(difference: Difference, p: float, direction: int) -> str:
    if p > LEVEL:
        return UNDECIDED
    return AS_ARGUED if difference.mean * direction > 0 else OPPOSITE


def _statement(found: Sequence[Shift]) -> str:
    counts = [
        f"{sum(one.verdict == verdict for one in found)} {verdict}" for verdict in (AS_ARGUED, OPPOSITE, UNDECIDED)
    ]
    return (
        "The paper argues that a decoder that reads in an order learns less from words that it reads late, and masked "
        f"diffusion does not. Of {len(found)} differences below {', '.join(counts)}, which is not the same as no "
        "difference."
    )


def _shift_table(found: Sequence[Shift], first: Findings) -> Table:
    own = first.plan["entries"][0]["name"]
    rows = [
        [
            f"{one.redundancy:g}",
            one.time,
            _mean(one.values[own]),
            one.other,
            _mean(one.values[one.other]),
            said(one.difference),
            f"{one.adjusted_p:.3g}",
            one.verdict,
        ]
        for one in found
    ]
    caption = (
        "The probe of the background where captions state it last, less where they state it first: what an objective "
        f"wins or loses by that, early (when it was first probed) and at the end. The difference of {own} to another "
        "is paired by seed; p is adjusted by Holm over all lines of this table. An encoder without training tells "
        "backgrounds well: look at how early a probe finds them."
    )
    header = ["redundancy", "probed", own, "other", "other's", "difference", "p, Holm", "this is"]
    return Table("positions_shifts", caption, header, rows)


def _table(every: Mapping[Place, Findings]) -> Table:
    rows = []
    for one, found in every.items():
        signals = {measure.metric: found.last(measure) for measure in reversed(found.measures(_FILE))}
        columns = [*(_at(_course(found), index) for index in _TIMES.values()), *(signals.get(s, {}) for s in _SIGNALS)]
        for entry in found.entries:
            if entry not in found.controls:
                rows.append([str(one), entry, *(_mean(column.get(entry, {})) for column in columns)])
    caption = (
        "The probe of the background, and what the image is worth to the words of a caption by thirds. Words differ by "
        "position in what an image could say of them: compare entries, and a place with the other."
    )
    header = ["", "entry", *(f"background, {time}" for time in _TIMES), *_SIGNALS]
    return Table("positions", caption, header, rows)


def _mean(values: Mapping[int, float]) -> str:
    return tables.interval(*mean_and_interval(list(values.values()))) if values else ""


def _picture(name: str, x: str, y: str, every: Mapping[Place, panels.Curves], folder: epath.Path) -> Picture:
    figure = panels.curves({f"{x}; {one}": curves for one, curves in every.items()}, y)
    return Picture(name, panels.save(figure, folder / f"{name}.svg"), f"{y}, by where the background is stated")


def _steps(found: Findings) -> panels.Curves:
    return {
        entry: [np.array([[point.step, point.value] for point in points]) for points in seeds.values()]
        for entry, seeds in _course(found).items()
    }


def _signal(found: Findings) -> panels.Curves:
    return next((parts.curves(paths, "position", "signal") for paths in found.files(_FILE).values()), {})
