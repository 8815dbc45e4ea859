"""Images with several captions as retrieval is measured on them: "karpathy:FILE.json[,images=DIR]".

FILE is a test or validation split of COCO or Flickr30k (arXiv 1412.2306) as coco_karpathy_test.json and
flickr30k_test.json have it, [{"image": "val2014/1.jpg", "caption": ["a cat", ...]}, ...]; the images stand below its
own folder unless told otherwise.
"""

import hashlib
import pathlib
from collections.abc import Mapping

from mdc_jax.data.sources import options, published
from mdc_jax.data.sources.base import Family, Record

_FIELDS = "image and caption, a list of texts"


class KarpathySource:
    """In the order of the file."""

    families: Mapping[str, Family] = {}

    def __init__(self, spec: str, entries: list[tuple[pathlib.Path, tuple[str, ...]]]) -> None:
        self.spec = spec
        self._entries = entries
        content = [(file.name, captions) for file, captions in entries]
        self.fingerprint = hashlib.sha256(repr(content).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.spec} has {len(self)} records, no {index}")
        file, captions = self._entries[index]
        return Record(file.read_bytes(), captions)

    def captions(self, index: int) -> tuple[str, ...]:
        """The captions of record `index`, whose file is not read."""
        return self._entries[index][1]


def read(path: pathlib.Path, pictures: pathlib.Path) -> list[tuple[pathlib.Path, tuple[str, ...]]]:
    """The images, below the folder `pictures`, with their captions; raises ValueError for a file that is not so."""
    try:
        entries = []
        for entry in published.read_json(path, _FIELDS):
            if not isinstance(entry["caption"], list) or not all(isinstance(text, str) for text in entry["caption"]):
                raise TypeError(f"{str(entry)[:200]} has no list of captions")
            entries.append((published.below(pictures, entry["image"]), tuple(entry["caption"])))
    except (KeyError, TypeError, ValueError) as error:
        raise published.malformed(path, _FIELDS, error) from error
    return entries


def open(rest: str) -> KarpathySource:
    """Opens "FILE.json[,images=DIR]".

    Raises:
      FileNotFoundError: the file or an image is not there.
      ValueError: the file or an option is not like this.
    """
    name, *items = rest.split(",")
    path = pathlib.Path(name)
    pictures = options.read("karpathy", items, {"images": pathlib.Path}).get("images", path.parent)
    entries = read(path, pictures)
    published.check_files({file for file, _ in entries})
    return KarpathySource(f"karpathy:{rest}", entries)
