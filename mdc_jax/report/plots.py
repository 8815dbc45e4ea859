"""Pictures for people."""

import dataclasses
import io
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from etils import epath

from mdc_jax.report import figures

_COLUMNS = 2
_IMAGE, _TEXT, _GAP, _TITLE = 1.4, 3.5, 0.15, 0.35  # inches
_FONT = 8  # points
_ADVANCE = 0.602 * _FONT / 72  # inches from one monospaced letter to the next
_LINE = 1.35 * _FONT / 72
_MOST_BINS = 120  # of a histogram
_PANELS = 4  # of a row
_GREY, _BLACK, _RED = "#777777", "#111111", "#cc1111"

Word = tuple[str, bool]  # and whether it belongs to a wrong claim


@dataclasses.dataclass(frozen=True)
class Captioned:
    """An image u8[H, W, 3], its own caption, and the generated one word by word."""

    image: np.ndarray
    truth: str
    generated: Sequence[Word]


_TITLE_OF_CAPTIONS = "grey: the image's own caption    black: generated    bold red: a wrong claim"


def captions(path: epath.Path, examples: Sequence[Captioned], title: str = _TITLE_OF_CAPTIONS) -> None:
    """Draws images beside their own caption (grey) and the generated one (black, wrong claims bold and red)."""
    rows = -(-len(examples) // _COLUMNS)
    cell_width, cell_height = _IMAGE + _TEXT + 2 * _GAP, _IMAGE + _GAP
    width, height = _COLUMNS * cell_width + _GAP, rows * cell_height + _GAP + _TITLE
    from matplotlib.figure import Figure  # slow to import, and no start of a training draws

    figure = Figure(figsize=(width, height), facecolor="white")
    figure.text(_GAP / width, 1 - _TITLE / 2 / height, title, va="center", fontsize=_FONT + 1)
    for i, example in enumerate(examples):
        left = _GAP + (i % _COLUMNS) * cell_width
        top = height - _TITLE - (i // _COLUMNS) * cell_height
        axes = figure.add_axes((left / width, (top - _IMAGE) / height, _IMAGE / width, _IMAGE / height))
        axes.imshow(example.image, interpolation="nearest")
        axes.set_axis_off()
        styled = [(word, _GREY, "normal") for word in example.truth.split()]
        lines = [*_wrap(styled), []]
        styled = [(word, _RED, "bold") if wrong else (word, _BLACK, "normal") for word, wrong in example.generated]
        lines += _wrap(styled)
        for row, line in enumerate(lines):
            for start, (word, colour, weight) in line:
                figure.text(
                    (left + _IMAGE + _GAP + start * _ADVANCE) / width,
                    (top - row * _LINE) / height,
                    word,
                    va="top",
                    fontsize=_FONT,
                    family="monospace",
                    color=colour,
                    weight=weight,
                    parse_math=False,
                )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    path.write_bytes(buffer.getvalue())


def lengths(samples: Mapping[str, Sequence[int]], limit: int) -> bytes:
    """A histogram of lengths for each named sample, as shares, and a line behind the limit; returns SVG."""
    from matplotlib.figure import Figure  # as above

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.add_subplot()
    longest = max((max(values, default=0) for values in samples.values()), default=0)
    last = max(longest, limit) + 1
    edges = np.linspace(0, last, min(last + 1, _MOST_BINS)).round() - 0.5  # between whole numbers
    for name, values in samples.items():
        weights = np.full(len(values), 1 / max(len(values), 1))
        axes.hist(values, edges, weights=weights, histtype="stepfilled", alpha=0.35, label=name)
    axes.axvline(limit + 0.5, color=_RED, linewidth=1, linestyle="--", label=f"data.max_tokens = {limit}")
    axes.set_xlabel("tokens, EOS included")
    axes.set_ylabel("share of the captions")
    axes.set_xlim(0, edges[-1])
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=_FONT)
    return figures.render(figure, "svg", "lengths")


def bands(runs: Mapping[str, np.ndarray], x: str, y: str) -> bytes:
    """A line for each name, the mean of its runs f64[runs, points, (x, y)], in the range of these; returns SVG."""
    import matplotlib  # as above
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.set_prop_cycle(color=matplotlib.colormaps["tab20"].colors)
    for name, points in runs.items():
        mean = points.mean(0)
        (line,) = axes.plot(*mean.T, marker=".", linewidth=1, label=name)
        axes.fill_between(
            mean[:, 0], points[..., 1].min(0), points[..., 1].max(0), color=line.get_color(), alpha=0.12, linewidth=0
        )
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, fontsize=_FONT, loc="outside right upper")
    return figures.render(figure, "svg", "bands")


def multiples(panels: Mapping[str, Mapping[str, np.ndarray]], x: str, y: str) -> bytes:
    """A small panel for each name, with a line f64[points, (x, y)] for each name in it; returns SVG.

    Panels have the same x axis, and each its own y axis, from 0. A line has its colour in every panel, also where
    others are missing.
    """
    import matplotlib  # as above
    from matplotlib.figure import Figure

    rows = -(-len(panels) // _PANELS)
    figure = Figure(figsize=(2.2 * _PANELS + 1.2, 1.7 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, _PANELS, sharex=True, squeeze=False).flat
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    colours = dict(zip(names, itertools.cycle(matplotlib.colormaps["tab20"].colors), strict=False))
    for axis, (title, lines) in itertools.zip_longest(axes, panels.items(), fillvalue=("", {})):
        axis.set_title(title, fontsize=_FONT)
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_visible(bool(title))
        for name, points in lines.items():
            axis.plot(*points.T, marker=".", linewidth=1, color=colours[name])
        axis.set_ylim(bottom=0)
    handles = [matplotlib.lines.Line2D([], [], color=colours[name], marker=".", label=name) for name in names]
    figure.supxlabel(x, fontsize=_FONT + 1)
    figure.supylabel(y, fontsize=_FONT + 1)
    figure.legend(handles=handles, frameon=False, fontsize=_FONT, loc="outside right upper")
    return figures.render(figure, "svg", "multiples")


def _wrap(words: Iterable[tuple[str, str, str]]) -> Iterator[list[tuple[int, tuple[str, str, str]]]]:
    """Lines of (first column, word) that fit beside an image."""
    line, column = [], 0
    for word in words:
        if line and column + len(word[0]) > _TEXT / _ADVANCE:
            yield line
            line, column = [], 0
        line.append((column, word))
        column += len(word[0]) + 1
    yield line
