"""Tables as CSV, Markdown and terminal text."""

import csv
import io
import math
from collections.abc import Mapping, Sequence

from etils import epath

from mdc_jax import files

Cell = str | int | float


def write_csv(path: epath.Path, header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([[f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row] for row in rows])
    files.write(path, text.getvalue())


def read_csv(path: epath.Path) -> list[dict[str, str]]:
    """The rows below the header, by column; raises ConfigError for a file that was cut off."""
    text = path.read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    if not text.endswith("\n") or any(None in row or None in row.values() for row in rows):
        raise files.damaged(path)
    return rows


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns, which also reads well on a terminal."""
    cells = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines) + "\n"


def interval(value: float, low: float, high: float) -> str:
    """A value with its interval, as in "0.951 [0.942, 0.960]"."""
    return f"{value:.3f}" if low == high or math.isnan(value) else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def grid(cells: Mapping[tuple[str, str], str]) -> str:
    """A Markdown table of (row, column) → text, in the order of first mention; missing cells are empty."""
    return markdown(*arranged(cells))


def arranged(cells: Mapping[tuple[str, str], str]) -> tuple[list[str], list[list[str]]]:
    """The header and the rows of (row, column) → text, as in `grid`."""
    rows, columns = (list(dict.fromkeys(key[i] for key in cells)) for i in (0, 1))
    return ["", *columns], [[row, *(cells.get((row, column), "") for column in columns)] for row in rows]
