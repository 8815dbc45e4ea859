"""The stamps of Tux Paint (Debian: tuxpaint-stamps-default): about 900 photo cut-outs and drawings with titles."""

import collections
import contextlib
import pathlib
import re
import tempfile
from collections.abc import Iterator

from mdc_jax.data.prepare import packages
from mdc_jax.data.prepare.collection import FOLDER, Collection, Picture, top_folder
from mdc_jax.data.sources.folder import image_files
from mdc_jax.data.texts import words

PACKAGE = "tuxpaint-stamps-default"
LICENCE = "GPL-2"
ATTRIBUTION = (
    "Tux Paint stamps, copyright 2002-2022 Bill Kendrick <bill@newbreedsoftware.com> and contributors, "
    "http://sourceforge.net/projects/tuxpaint"
)
KINDS = {
    "people": "people",
    "animals": "nature",
    "plants": "nature",
    "food": "food",
    "town": "travel",
    "vehicles": "travel",
    "hobbies": "activities",
    "sports": "activities",
    "household": "objects",
    "clothes": "objects",
    "medical": "objects",
}

_INSTALLED = pathlib.Path("/usr/share/tuxpaint/stamps")
_MEGABYTES = 161
_ALPHABETS = "alphabets"  # pictures of letters


@contextlib.contextmanager
def collect(given: str) -> Iterator[Collection]:
    """The stamps of a folder or .deb that the user names, or "": of the system; temporary files live as long.

    Raises:
      FileNotFoundError: the stamps cannot be had; says what to do.
    """
    with tempfile.TemporaryDirectory(prefix="tuxpaint-") as temporary:
        root, version = packages.find_debian({PACKAGE: ""}, _INSTALLED, given, pathlib.Path(temporary), _MEGABYTES)
        yield _read(root, version)


def _read(root: pathlib.Path, version: str) -> Collection:
    pictures, dropped = [], collections.Counter()
    for file in image_files(root, (".png", ".svg"), links=False):
        title = _title((root / file).with_suffix(".txt"))
        if _ALPHABETS in file.parts:
            dropped["letters"] += 1
        elif not title:
            dropped["no caption"] += 1
        else:
            folder = top_folder(file)
            concepts = ("title", words(title)), ("file", _family(file.stem))
            pictures.append(
                Picture(
                    root / file, file.as_posix(), (title,), concepts, {FOLDER: folder}, title, KINDS.get(folder, "")
                )
            )
    if not pictures:
        raise FileNotFoundError(f"{root} holds no stamps: pictures X.png or X.svg, each with its title in X.txt")
    return Collection(f"{PACKAGE} {version}".strip(), LICENCE, ATTRIBUTION, pictures, dict(dropped))


def _title(path: pathlib.Path) -> str:
    """The first line of a stamp's text is its English title, its translations follow."""
    try:
        return path.read_bytes().partition(b"\n")[0].decode().strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return ""


def _family(stem: str) -> str:
    """apple_2 and Apple-3 are variants of one drawing."""
    stem = stem.lower()
    return re.sub(r"[\W\d_]+$", "", stem) or stem
