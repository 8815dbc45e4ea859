"""Images with several captions as retrieval is measured on them: "karpathy:FILE.json[,images=DIR][,split=SPLIT]".

FILE is of COCO or Flickr30k, split as in arXiv 1412.2306: coco_karpathy_test.json, flickr30k_test.json and their like,

    [{"image": "val2014/1.jpg", "caption": ["a cat", ...]}, ...]

or the author's own dataset_coco.json or dataset_flickr30k.json, of which one split is read, "test" unless told
otherwise:

    {"images": [{"filepath": "val2014", "filename": "1.jpg", "split": "test", "sentences": [{"raw": "a cat"}, ...],
                 "cocoid": 1}, ...]}

COCO's number of an image is its `cocoid`, or stands in its name, as in COCO_val2014_000000000001.jpg.
The images stand below the folder of FILE unless told otherwise.
"""

import hashlib
import pathlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from mdc_jax.data import images as pixels
from mdc_jax.data.sources import options, published
from mdc_jax.data.sources.base import Family, Record, check_index, number

_TEST = "test"
_FIELDS = (
    "image and caption, a list of texts, or images with filename, split and sentences (COCO's own annotations are read "
    "by python -m mdc_jax.data.prepare.coco)"
)


_OF_COCO = re.compile(r"COCO_(?:train|val)2014_(\d{12})\.jpg")


class Entry(NamedTuple):
    """An image with its captions, and COCO's number of it, where it has one."""

    file: pathlib.Path
    captions: tuple[str, ...]
    published_id: int | None


class KarpathySource:
    """In the order of the file."""

    families: Mapping[str, Family] = {}

    def __init__(self, spec: str, entries: list[Entry]) -> None:
        self.spec = spec
        self._entries = entries
        content = [(entry.file.name, entry.captions) for entry in entries]
        self.fingerprint = hashlib.sha256(repr(content).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Record:
        check_index(self, index)
        entry = self._entries[index]
        return Record(pixels.read(entry.file), entry.captions, published_id=entry.published_id)

    def captions(self, index: int) -> tuple[str, ...]:
        """The captions of record `index`, whose file is not read."""
        return self._entries[index].captions


def read(path: pathlib.Path, pictures: pathlib.Path, split: str = "") -> list[Entry]:
    """The images, below the folder `pictures`, with their captions.

    Raises ValueError for a file that is not so, and a `split` that it does not have.
    """
    try:
        content = published.read_json(path, _FIELDS)
        own = isinstance(content, dict)
        entries = []
        for entry in _of_split(content["images"], split or _TEST) if own else content:
            if not isinstance(entry["caption"], list) or not all(isinstance(text, str) for text in entry["caption"]):
                raise TypeError(f"{str(entry)[:200]} has no list of captions")
            file = published.file_in(pictures, entry["image"])
            named = _OF_COCO.fullmatch(file.name)
            identity = int(named[1]) if named else number(entry.get("cocoid"))
            entries.append(Entry(file, tuple(entry["caption"]), identity))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise published.malformed(path, _FIELDS, error) from error
    if own and not entries:
        splits = sorted({str(image["split"]) for image in content["images"]})
        raise ValueError(f"{path} has no image of the split {split or _TEST!r}; it has {', '.join(splits) or 'none'}")
    if split and not own:
        raise ValueError(f"{path} is of one split: leave out split={split}")
    return entries


def _of_split(images: list[Mapping[str, Any]], split: str) -> list[dict[str, Any]]:
    """The entries of the author's own file in the form of the others."""
    return [
        {
            "image": pathlib.PurePath(image.get("filepath", ""), image["filename"]).as_posix(),
            "caption": [sentence["raw"] for sentence in image["sentences"]],
            "cocoid": image.get("cocoid"),
        }
        for image in images
        if image["split"] == split
    ]


def open(rest: str) -> KarpathySource:
    """Opens "FILE.json[,images=DIR][,split=SPLIT]".

    Raises:
      FileNotFoundError: the file or an image is not there.
      ValueError: the file or an option is not like this.
    """
    name, *items = rest.split(",")
    path = pathlib.Path(name)
    given = options.read("karpathy", items, {"images": pathlib.Path, "split": str})
    entries = read(path, given.get("images", path.parent), given.get("split", ""))
    published.check_files({entry.file for entry in entries})
    return KarpathySource(f"karpathy:{rest}", entries)
