"""Figures of several runs: their course, and what of their differences is sure. As SVG and PDF."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from etils import epath

from mdc_jax.report import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FONT = 8  # points
_WIDTH, _HEIGHT, _LINE = 3.2, 3.0, 0.22  # inches: of a panel, and of a line of text

Curves = Mapping[str, Sequence[np.ndarray]]  # by name, f64[points, (x, y)] of each of its runs


def curves(panels: Mapping[str, Curves], y: str) -> "Figure":
    """A panel for each x axis, side by side; every run is a line, in the colour of its name."""
    import matplotlib
    from matplotlib.figure import Figure  # slow to import

    figure = Figure(figsize=(_WIDTH * len(panels) + 1.5, _HEIGHT), layout="constrained")
    colours = matplotlib.colormaps["tab20"].colors
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (x, panel) in zip(axes, panels.items(), strict=True):
        for name, runs in panel.items():
            for run in runs:
                axis.plot(*run.T, marker=".", linewidth=1, color=colours[names.index(name) % len(colours)])
        axis.set_xlabel(x, fontsize=_FONT)
        axis.ticklabel_format(axis="x", scilimits=(-3, 4))
        axis.locator_params(axis="x", nbins=4)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel(y)
    handles = [
        matplotlib.lines.Line2D([], [], color=colours[index % len(colours)], marker=".", label=name)
        for index, name in enumerate(names)
    ]
    figure.legend(handles=handles, frameon=False, fontsize=_FONT, loc="outside right upper")
    return figure


def with_intervals(lines: Mapping[str, np.ndarray], x: str, y: str) -> "Figure":
    """A line with a bar at each point for each name, f64[points, (x, mean, low, high)]; x is logarithmic."""
    from matplotlib.figure import Figure  # as above

    figure = Figure(figsize=(1.5 * _WIDTH, _HEIGHT), layout="constrained")
    axis = figure.subplots()
    for name, line in lines.items():
        place, mean, low, high = line.T
        axis.errorbar(place, mean, (mean - low, high - mean), label=name, marker=".", linewidth=1, capsize=2)
    axis.set_xscale("log")
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, fontsize=_FONT, loc="outside right upper")
    return figure


def intervals(rows: Sequence[tuple[str, float, float, float]], x: str) -> "Figure":
    """A line of (name, mean, low, high) each, from the top, and a rule at 0; without bounds, the mean alone."""
    from matplotlib.figure import Figure  # as above

    figure = Figure(figsize=(2 * _WIDTH, _LINE * len(rows) + 0.8), layout="constrained")
    axis = figure.subplots()
    for place, (_, mean, low, high) in enumerate(rows):
        if np.isfinite(high - low):
            axis.plot([low, high], [place, place], color="#333333", linewidth=1.2)
        axis.plot(mean, place, "o", markersize=4, color="#1f4e9c")
    axis.axvline(0, color="#999999", linewidth=0.8)
    axis.set_yticks(range(len(rows)), [name for name, *_ in rows], fontsize=_FONT, parse_math=False)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.set_xlabel(x)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def save(figure: "Figure", path: epath.Path) -> bytes:
    """Writes the figure as .svg and .pdf, the same bytes for the same figure; returns the SVG."""
    svg, pdf = (figures.render(figure, kind, path.name) for kind in ("svg", "pdf"))
    path.with_suffix(".svg").write_bytes(svg)
    path.with_suffix(".pdf").write_bytes(pdf)
    return svg
