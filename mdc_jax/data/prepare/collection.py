"""What `prepare.pictures` makes of its sources: pictures with captions, split by concept, rendered to one size."""

import collections
import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

from mdc_jax.data import images
from mdc_jax.data.prepare import encode, svg
from mdc_jax.data.prepare.example import Example
from mdc_jax.data.prepare.records import ShardPlan
from mdc_jax.data.sources.base import BadRecord, Family

SETTINGS = {"short_side": 256, "format": "JPEG", "quality": 95}
SHARES = {"train": 0.72, "validation": 0.13, "test": 0.15}
# Of a held-out style: drawings of the concepts of `test`, which are in no training split, and of the others.
STYLE, STYLE_SEEN = "style", "style_seen"
FOLDER = "folder"  # the label family of top folders
MIN_IN_FOLDER = 50  # pictures that make a folder or group a label
SHARD_SIZE = 256  # pictures
WHITE = 245  # what is lighter cannot be told from the paper
_MIN_INKED = 0.001  # share of a picture that is darker

# Maps a function over pictures, in order; the built-in `map`, or that of a pool of processes.
Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


@dataclasses.dataclass(frozen=True)
class Picture:
    """A file of a source. Pictures that share any of their concepts come into the same split."""

    path: pathlib.Path
    name: str  # path within the source, with /
    captions: tuple[str, ...]
    concepts: tuple[Hashable, ...]
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)  # by family; "" where none applies
    title: str = ""  # of what is shown, for collages
    kind: str = ""  # what kind of thing that is, in words that all sources share; "": not for collages
    held_out: bool = False  # of a style that is kept from training


@dataclasses.dataclass(frozen=True)
class Collection:
    """The usable pictures of a source, and how many others it had, by reason."""

    source: str
    licence: str
    attribution: str
    pictures: Sequence[Picture]
    dropped: Mapping[str, int]


def top_folder(file: pathlib.PurePath) -> str:
    """The first folder of a path within a source; "" for a picture in none."""
    return file.parts[0] if len(file.parts) > 1 else ""


def group_by_concept(pictures: Sequence[Picture]) -> list[Hashable]:
    """The group of every picture: pictures that share a concept, directly or through others, have the same one.

    A group is called by its first concept.
    """
    parent: dict[Hashable, Hashable] = {}

    def root(concept: Hashable) -> Hashable:
        while parent.setdefault(concept, concept) != concept:
            concept = parent[concept]
        return concept

    for picture in pictures:
        first, *others = sorted((root(concept) for concept in picture.concepts), key=str)
        for other in others:
            parent[other] = first
    return [root(picture.concepts[0]) for picture in pictures]


def side_of(group: Hashable) -> str:
    """One of SHARES: a hash of the group says where it goes."""
    left = _hash(str(group)) / 2**64
    for split, share in SHARES.items():
        left -= share
        if left < 0:
            return split
    return split


def split_of(picture: Picture, group: Hashable) -> str:
    """The split of a picture of a group."""
    split = side_of(group)
    if picture.held_out:
        return STYLE if split == "test" else STYLE_SEEN
    return split


def split_by_concept(pictures: Sequence[Picture]) -> dict[str, list[Picture]]:
    """Pictures of every split, in a random order that depends on their names alone."""
    splits: dict[str, list[Picture]] = {split: [] for split in SHARES}
    for picture, group in zip(pictures, group_by_concept(pictures), strict=True):
        splits.setdefault(split_of(picture, group), []).append(picture)
    return {split: sorted(chosen, key=lambda picture: _hash(picture.name)) for split, chosen in splits.items()}


def families(pictures: Sequence[Picture]) -> dict[str, Family]:
    """The label families of the pictures: names with at least MIN_IN_FOLDER pictures, where there are two."""
    counts: dict[str, collections.Counter[str]] = {}
    for picture in pictures:
        for family, name in picture.labels.items():
            counts.setdefault(family, collections.Counter())[name] += 1
    found = {
        family: tuple(sorted(name for name, count in counts[family].items() if name and count >= MIN_IN_FOLDER))
        for family in counts
    }
    return {family: Family("class", names) for family, names in found.items() if len(names) > 1}


def label(picture: Picture, family: str, names: Sequence[str]) -> int:
    """The class of a picture; -1 where none applies."""
    name = picture.labels.get(family, "")
    return names.index(name) if name in names else -1


def shards(
    splits: Mapping[str, Sequence[Picture]],
    settings: Mapping[str, Any],
    example: Callable[[Picture], Example | BadRecord],
    map_: Map = map,
) -> list[ShardPlan]:
    """The files to write: what `example` makes of the pictures.

    Args:
      splits: the pictures of each.
      settings: all that decides the content of an example beside its picture.
      example: the example of a picture; it must be picklable, for processes.
      map_: runs it.
    """
    plans = []
    for split, pictures in splits.items():
        parts = [pictures[start : start + SHARD_SIZE] for start in range(0, len(pictures), SHARD_SIZE)]
        for number, part in enumerate(parts):
            name = f"{split}-{number:05d}-of-{len(parts):05d}.arrayrecord"
            inputs = _inputs(part, settings)
            plans.append(ShardPlan(name, split, inputs, len(part), functools.partial(map_, example, part)))
    return plans


@dataclasses.dataclass(frozen=True)
class Rendered:
    """Makes the example of a picture; what cannot be rendered is a BadRecord."""

    families: Mapping[str, Family]
    may_be_blank: bool

    def __call__(self, picture: Picture) -> Example | BadRecord:
        labels = {name: label(picture, name, family.names) for name, family in self.families.items()}
        try:
            return Example(render(picture.path, self.may_be_blank), picture.captions, labels, {"file": picture.name})
        except BadRecord as fault:
            return fault


def render(path: pathlib.Path, may_be_blank: bool = True) -> bytes:
    """A picture file as JPEG on white, its short side at most SETTINGS["short_side"]; raises BadRecord."""
    short = SETTINGS["short_side"]
    pixels = images.decode(svg.picture(path, short))
    if not may_be_blank and (pixels.min(2) < WHITE).mean() < _MIN_INKED:
        raise BadRecord("blank picture")
    return encode.jpeg(pixels, short, SETTINGS["quality"])


def content_hash(path: pathlib.Path) -> bytes:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _inputs(pictures: Sequence[Picture], settings: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(repr(sorted(settings.items())).encode())
    for picture in pictures:
        digest.update(repr((picture.name, picture.captions, picture.title, picture.kind)).encode())
        digest.update(content_hash(picture.path))
    return digest.hexdigest()


def _hash(text: str) -> int:
    # Names of files need not be UTF-8.
    return int.from_bytes(hashlib.sha256(text.encode(errors="surrogatepass")).digest()[:8], "big")
