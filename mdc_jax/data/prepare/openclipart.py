"""The Open Clip Art Library (Debian: openclipart-png, openclipart-svg): public-domain drawings with titles.

Pixels are those of the PNG files, which have the text that a rendering without fonts lacks; title and description
stand in the metadata of the SVG file of the same name.
"""

import collections
import contextlib
import pathlib
import re
import tempfile
import warnings
import xml.etree.ElementTree
from collections.abc import Iterator

import PIL.Image

from mdc_jax.data import images
from mdc_jax.data.prepare import packages
from mdc_jax.data.prepare.collection import Collection, Picture, top_folder
from mdc_jax.data.sources.folder import image_files
from mdc_jax.data.texts import words

PACKAGES = {"openclipart-png": "png", "openclipart-svg": "svg"}
LICENCE = "public domain"
ATTRIBUTION = "Open Clip Art Library 0.18 and its contributors, http://www.openclipart.org"
FAMILY = "openclipart_folder"
KINDS = {
    "people": "people",
    "animals": "nature",
    "plants": "nature",
    "food": "food",
    "transportation": "travel",
    "buildings": "travel",
    "recreation": "activities",
    "computer": "objects",
    "containers": "objects",
    "electronics": "objects",
    "office": "objects",
    "tools": "objects",
    "signs_and_symbols": "symbols",
}

_INSTALLED = pathlib.Path("/usr/share/openclipart")
_MEGABYTES = 156
_MOST_USES = 12  # a title that more drawings share names their collection rather than what they show
_MOST_WORDS = 40  # of a description
_FLAGS = "signs_and_symbols/flags/"
_AUTHOR = re.compile(r"^clipart by [\w ]+ - ", re.IGNORECASE)
_NUMBER = re.compile(r"[\s_-]*\d+$")  # of variants, as in boat_01
_ADDRESS = re.compile(r"@|://|www\.")


@contextlib.contextmanager
def collect(given: str) -> Iterator[Collection]:
    """The drawings of a folder that the user names (with png/ and svg/, or with the two .deb files), or "": of the
    system; temporary files live as long.

    Raises:
      FileNotFoundError: the drawings cannot be had; says what to do.
    """
    with tempfile.TemporaryDirectory(prefix="openclipart-") as temporary:
        root, version = packages.find_debian(PACKAGES, _INSTALLED, given, pathlib.Path(temporary), _MEGABYTES)
        yield _read(root, version)


def _read(root: pathlib.Path, version: str) -> Collection:
    texts = {file: _metadata(root / "svg" / file) for file in image_files(root / "svg", (".svg",), links=False)}
    uses = [collections.Counter(column) for column in zip(*filter(None, texts.values()), strict=True)]
    pictures, dropped = [], collections.Counter()
    for file, text in texts.items():
        drawing = (root / "png" / file).with_suffix(".png")
        if text is None:
            dropped["damaged metadata"] += 1
            continue
        raw, description = text
        title = _clean(raw)
        if not title:
            dropped["no title"] += 1
        elif uses[0][raw] > _MOST_USES:
            dropped[f"title used more than {_MOST_USES} times"] += 1
        elif not drawing.exists():
            dropped["no PNG"] += 1
        else:
            captions = [title]
            if uses[1][description] <= _MOST_USES and _describes(description, title):
                captions.append(description)
            name, folder = f"openclipart/{file.as_posix()}", top_folder(file)
            kind = "flags" if file.as_posix().startswith(_FLAGS) else KINDS.get(folder, "")
            path = drawing if _is_bounded(drawing) else root / "svg" / file
            concepts = (("title", words(title)),)
            pictures.append(Picture(path, name, tuple(captions), concepts, {FAMILY: folder}, title, kind))
    if not pictures:
        raise FileNotFoundError(
            f"{root} holds no drawings: svg/X.svg with a title in its metadata and png/X.png of the same name"
        )
    return Collection(f"openclipart {version}".strip(), LICENCE, ATTRIBUTION, pictures, dict(dropped))


def _metadata(path: pathlib.Path) -> tuple[str, str] | None:
    """Title and description of a drawing (not of its authors, whose names are titles too); None if damaged."""
    try:
        root = xml.etree.ElementTree.parse(path).getroot()
    except (xml.etree.ElementTree.ParseError, ValueError):
        return None
    work = next((element for element in root.iter() if _tag(element) == "Work"), ())
    found = {_tag(element): " ".join((element.text or "").split()) for element in reversed(list(work))}
    return found.get("title", ""), found.get("description", "")


def _tag(element: xml.etree.ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _clean(title: str) -> str:
    """A title without author, number of the variant and underscores; "" where no word is left."""
    if _ADDRESS.search(title):
        return ""
    title = _NUMBER.sub("", _AUTHOR.sub("", title)).replace("_", " ").strip()
    return title if any(letter.isalpha() for letter in title) else ""


def _describes(description: str, title: str) -> bool:
    """Whether a description says something, and something else than the title."""
    said = words(description)
    return said not in ("", words(title)) and len(said.split()) <= _MOST_WORDS and not _ADDRESS.search(description)


def _is_bounded(path: pathlib.Path) -> bool:
    """Whether a picture has few enough pixels to be decoded; some PNG files have 30,000 a side."""
    try:
        with warnings.catch_warnings(action="ignore"), PIL.Image.open(path, formats=("PNG",)) as picture:
            return picture.width * picture.height <= images.MAX_PIXELS
    except PIL.Image.DecompressionBombError:
        return False
    except (OSError, ValueError):
        return True  # damaged otherwise, which is counted when it is decoded
