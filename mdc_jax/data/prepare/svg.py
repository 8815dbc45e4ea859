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
_DEEPEST = 64  # elements within each other, for each of which the renderer takes some 40 KB of the stack
_MAX_BYTES = 2**26  # of a drawing, or of a picture beside it
_BITMAPS = tuple(f"data:image/{kind}" for kind in ("png", "jpeg", "jpg", "gif", "webp"))  # within a drawing


def picture(path: pathlib.Path, short: int) -> bytes:
    """The bytes of a picture file, of a drawing those that `render` makes; raises as that does."""
    return render(path, short) if path.suffix.lower() == ".svg" else path.read_bytes()


def render(path: pathlib.Path, short: int) -> bytes:
    """A drawing as PNG with this short side; without the system's fonts, so that it looks the same everywhere.

    One that is much longer than wide, or wider than long, is smaller. Raises BadRecord, also for a drawing of other
    files and for one that is made to fill the memory or the stack.
    """
    draw = functools.partial(resvg_py.svg_to_bytes, svg_path=os.fspath(path), dpi=96, skip_system_fonts=True)
    long = _LONGEST * short
    try:
        _check(path)
        drawn = bytes(draw(width=short, height=long))
        pixels = images.decode(drawn)
        if pixels.min() == pixels.max():
            raise BadRecord("blank drawing, as of text without fonts")
        return drawn if pixels.shape[0] >= pixels.shape[1] else bytes(draw(width=long, height=short))
    except BadRecord:
        raise
    except (ValueError, LookupError, xml.etree.ElementTree.ParseError) as error:  # LookupError: an unknown encoding
        raise BadRecord("damaged SVG") from error


def _check(path: pathlib.Path) -> None:
    """Raises BadRecord for a drawing of files elsewhere, or of pictures of any size, which the renderer would read.

    It would also unpack a drawing of any size; that is no XML, and raises as `xml.etree` and `base64` do.
    """
    if path.stat().st_size > _MAX_BYTES:
        raise BadRecord("huge SVG")
    root = xml.etree.ElementTree.parse(path).getroot()
    _check_depth(root)
    for element in root.iter():
        if _local(element.tag) in ("image", "feImage"):
            for reference in _references(element):
                _check_picture(path, reference)


def _check_depth(root: xml.etree.ElementTree.Element) -> None:
    """Raises BadRecord where groups are too deep within each other, or used within themselves."""
    named = {f"#{element.get('id')}": element for element in root.iter() if element.get("id")}
    heights: dict[xml.etree.ElementTree.Element, int] = {}

    def height(element: xml.etree.ElementTree.Element, most: int) -> int:
        if heights.get(element, 1) > most:
            raise BadRecord("deep drawing")
        if element not in heights:
            used = _references(element) if _local(element.tag) == "use" else ()
            below = [*element, *(named[name] for name in used if name in named)]
            heights[element] = 1 + max((height(child, most - 1) for child in below), default=0)
        return heights[element]

    height(root, _DEEPEST)


def _references(element: xml.etree.ElementTree.Element) -> list[str]:
    return [value.strip() for name, value in element.items() if _local(name) == "href"]


def _local(name: str) -> str:
    """A name of XML without its namespace."""
    return name.rpartition("}")[2]


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
    elif os.path.exists(beside):  # unlike pathlib's, false for a name that is too long
        if beside.stat().st_size > _MAX_BYTES or not beside.is_file():
            raise BadRecord("drawing of other files")
        images.decode(beside.read_bytes())
