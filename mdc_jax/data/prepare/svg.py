"""Drawings (SVG) that nobody vouches for, as pictures."""

import base64
import functools
import os
import pathlib
import xml.etree.ElementTree

import resvg_py

from mdc_jax.data import images
from mdc_jax.data.sources.base import BadRecord

_LONGEST = 16  # times the short side of a picture
_MAX_BYTES = 2**26  # of a drawing, or of a picture beside it
_BITMAPS = tuple(f"data:image/{kind}" for kind in ("png", "jpeg", "jpg", "gif", "webp"))  # within a drawing


def render(path: pathlib.Path, short: int) -> bytes:
    """A drawing as PNG with this short side; without the system's fonts, so that it looks the same everywhere.

    One that is much longer than wide, or wider than long, is smaller. Raises BadRecord, also for a drawing of other
    files and for one that is made to fill the memory.
    """
    _check(path)
    draw = functools.partial(resvg_py.svg_to_bytes, svg_path=os.fspath(path), dpi=96, skip_system_fonts=True)
    long = _LONGEST * short
    try:
        picture = bytes(draw(width=short, height=long))
        pixels = images.decode(picture)
        if pixels.min() == pixels.max():
            raise BadRecord("blank drawing, as of text without fonts")
        return picture if pixels.shape[0] >= pixels.shape[1] else bytes(draw(width=long, height=short))
    except BadRecord:
        raise
    except ValueError as error:
        raise BadRecord("damaged SVG") from error


def _check(path: pathlib.Path) -> None:
    """Raises BadRecord for a drawing of files elsewhere, or of pictures of any size, which the renderer would read.

    It would also unpack a drawing of any size; that is no XML.
    """
    if path.stat().st_size > _MAX_BYTES:
        raise BadRecord("huge SVG")
    try:
        elements = list(xml.etree.ElementTree.parse(path).iter())
    except (xml.etree.ElementTree.ParseError, ValueError, LookupError) as error:
        raise BadRecord("damaged SVG") from error
    for element in elements:
        if element.tag.rpartition("}")[2] in ("image", "feImage"):
            for name, value in element.items():
                if name.rpartition("}")[2] == "href":
                    _check_picture(path, value.strip())


def _check_picture(path: pathlib.Path, reference: str) -> None:
    """Of a drawing: within it, beside it, or raises BadRecord; a part of the drawing is none."""
    start, comma, content = reference.partition("base64,")
    beside = path.parent / reference
    if reference.startswith("#"):
        return
    if start.startswith(_BITMAPS) and comma:
        images.decode(base64.b64decode(content))
    elif pathlib.PurePath(reference).name != reference or beside.resolve() != path.parent.resolve() / reference:
        raise BadRecord("drawing of other files")
    elif beside.exists():
        if beside.stat().st_size > _MAX_BYTES or not beside.is_file():
            raise BadRecord("drawing of other files")
        images.decode(beside.read_bytes())
