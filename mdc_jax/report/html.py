"""Self-contained pages: one file without links to others, to be opened from a disk or sent by mail."""

import base64
import dataclasses
import html
import io
from collections.abc import Sequence

import numpy as np
import PIL.Image
from etils import epath

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 76rem; margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.6rem; margin-bottom: .3rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .4rem; border-bottom: 1px solid #ddd; padding-bottom: .2rem; }
p { max-width: 52rem; margin: .5rem 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .8rem 0; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #eee; vertical-align: top; }
th { font-weight: 600; border-bottom-color: #999; }
img { max-width: 100%; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(22rem, 1fr)); gap: 1rem 1.4rem; }
.card { display: grid; grid-template-columns: 8rem 1fr; gap: .8rem; align-items: start; }
.card img { width: 8rem; height: 8rem; border: 1px solid #ddd; }
.card img.small { image-rendering: pixelated; }
.card small { color: #666; }
.pieces { margin: .15rem 0 .4rem; font: 12.5px/1.75 ui-monospace, monospace; overflow-wrap: anywhere; }
.pieces span { background: #eef2f7; border-radius: 3px; padding: .08rem .18rem; margin-right: .12rem; }
.pieces span.special { background: #333; color: #fff; }
"""
_SMALL = 128  # pixels of a side, below which an image is shown enlarged with its pixels visible


@dataclasses.dataclass(frozen=True)
class Piece:
    """A piece of a text; special ones, as an end mark, stand out."""

    text: str
    special: bool = False


@dataclasses.dataclass(frozen=True)
class Card:
    """An image u8[H, W, 3] with a title and texts beside it, each in pieces."""

    image: np.ndarray
    title: str
    texts: Sequence[Sequence[Piece]]


class Page:
    """A page that is written from the top; all text but `markup` is plain text."""

    def __init__(self, title: str, *, style: str = "", script: str = "") -> None:
        """Adds `style` to that of all pages, and runs `script` when the page is there."""
        self._title, self._style, self._script = html.escape(title), _STYLE + style, script
        self._parts = [f"<h1>{self._title}</h1>"]

    def heading(self, text: str) -> None:
        self._parts.append(f"<h2>{html.escape(text)}</h2>")

    def paragraph(self, text: str) -> None:
        self._parts.append(f"<p>{html.escape(text)}</p>")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table; without a line of names where the header is empty."""
        lines = [_row("th", header)] if any(header) else []
        lines += [_row("td", row) for row in rows]
        self._parts.append('<div class="wide"><table>\n' + "\n".join(lines) + "\n</table></div>")

    def drawing(self, svg: bytes, description: str) -> None:
        self._parts.append(f'<img src="{_inline(svg, "svg+xml")}" alt="{html.escape(description)}">')

    def cards(self, cards: Sequence[Card]) -> None:
        self._parts.append('<div class="cards">\n' + "\n".join(map(_card, cards)) + "\n</div>")

    def markup(self, markup: str) -> None:
        """Adds HTML as it is; whoever makes it escapes what is text."""
        self._parts.append(markup)

    def write(self, path: epath.Path) -> None:
        """Writes the file, and the folder that it lies in."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.text())

    def text(self) -> str:
        head = f'<head><meta charset="utf-8"><title>{self._title}</title><style>{self._style}</style></head>'
        script = [f"<script>{self._script}</script>"] if self._script else []
        body = "\n".join(("<body>", *self._parts, *script, "</body>"))
        return f'<!doctype html>\n<html lang="en">\n{head}\n{body}\n</html>\n'

    def frame(self, height: int) -> str:
        """The page as a part of another one, so many pixels high, that its style and script leave alone."""
        page = html.escape(self.text())
        return f'<div><iframe srcdoc="{page}" width="100%" height="{height}" frameborder="0"></iframe></div>'


def _row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def picture(image: np.ndarray) -> str:
    """An image u8[H, W, 3] as an address that holds it."""
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, "PNG")
    return _inline(file.getvalue(), "png")


def _card(card: Card) -> str:
    small = ' class="small"' if max(card.image.shape[:2]) <= _SMALL else ""
    texts = "".join(f'<div class="pieces">{"".join(map(_piece, pieces))}</div>' for pieces in card.texts)
    return (
        f'<div class="card"><img{small} src="{picture(card.image)}" alt="">'
        f"<div><small>{html.escape(card.title)}</small>{texts}</div></div>"
    )


def _piece(piece: Piece) -> str:
    special = ' class="special"' if piece.special else ""
    return f"<span{special}>{html.escape(piece.text)}</span><wbr>"


def _inline(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
