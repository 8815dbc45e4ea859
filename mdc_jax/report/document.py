"""A report that is written once and read in several ways: as a page, as Markdown, and its tables as CSV and LaTeX."""

import dataclasses
from collections.abc import Sequence

from etils import epath

from mdc_jax.report import latex, tables
from mdc_jax.report.html import Page


@dataclasses.dataclass(frozen=True)
class Heading:
    text: str


@dataclasses.dataclass(frozen=True)
class Paragraph:
    text: str


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of texts; `name` is that of its files. Where there is no row it stands nowhere, nor does a heading over
    nothing else."""

    name: str
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture as SVG, which lies beside the report as `name`.svg."""

    name: str
    svg: bytes
    description: str


_SHORT = 32  # letters

Block = Heading | Paragraph | Table | Picture


def write(folder: epath.Path, title: str, blocks: Sequence[Block]) -> None:
    """Writes `report.html`, which needs no other file, `report.md`, and of every table NAME.csv and NAME.tex."""
    folder.mkdir(parents=True, exist_ok=True)
    page(title, blocks).write(folder / "report.html")
    (folder / "report.md").write_text(markdown(title, blocks))
    for block in _with_content(blocks):
        if isinstance(block, Table):
            tables.write_csv(folder / f"{block.name}.csv", block.header, block.rows)
            text = latex.table(block.header, block.rows, block.caption, f"tab:{block.name}")
            (folder / f"{block.name}.tex").write_text(text)


def _with_content(blocks: Sequence[Block]) -> list[Block]:
    """Without tables that have no row, and headings with nothing below them."""
    found: list[Block] = []
    for block in reversed(blocks):
        under_heading = bool(found) and not isinstance(found[-1], Heading)
        if under_heading if isinstance(block, Heading) else not isinstance(block, Table) or block.rows:
            found.append(block)
    return found[::-1]


def page(title: str, blocks: Sequence[Block]) -> Page:
    """The report as a page that needs no other file."""
    found = Page(title)
    for block in _with_content(blocks):
        match block:
            case Heading(text):
                found.heading(text)
            case Paragraph(text):
                found.paragraph(text)
            case Table(_, caption, header, rows):
                found.paragraph(caption)
                found.table(header, [list(map(_unbroken, row)) for row in rows])
            case Picture(_, svg, description):
                found.drawing(svg, description)
    return found


def _unbroken(cell: str) -> str:
    """A short text on one line, so that a wide table is scrolled and its numbers stay whole."""
    return cell.replace(" ", "\N{NO-BREAK SPACE}") if len(cell) <= _SHORT else cell


def markdown(title: str, blocks: Sequence[Block]) -> str:
    """The report as Markdown, which shows the pictures that lie beside it."""
    parts = [f"# {title}\n"]
    for block in _with_content(blocks):
        match block:
            case Heading(text):
                parts.append(f"## {text}\n")
            case Paragraph(text):
                parts.append(f"{text}\n")
            case Table(_, caption, header, rows):
                cells = [[cell.replace("|", "\\|") for cell in row] for row in (header, *rows)]
                parts.append(f"{caption}\n\n{tables.markdown(cells[0], cells[1:])}")
            case Picture(name, _, description):
                parts.append(f"![{description}]({name}.svg)\n")
    return "\n".join(parts)
