"""Figures as bytes of a file."""

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DATED = {"svg": "Date", "pdf": "CreationDate"}


def render(figure: "Figure", kind: str, name: str) -> bytes:
    """The figure as "svg" or "pdf": the same bytes for the same figure and name, which identifiers in it depend on."""
    import matplotlib  # slow to import

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format=kind, metadata={_DATED[kind]: None})
    return buffer.getvalue()
