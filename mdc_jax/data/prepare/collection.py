"""What `prepare.pictures` makes of a source: pictures with captions, split by concept, rendered to one size."""

import collections
import dataclasses
import functools
import hashlib
import os
import pathlib
from collections.abc import Hashable, Iterator, Mapping, Sequence

import resvg_py

from mdc_jax.data import images
from mdc_jax.data.prepare import encode
from mdc_jax.data.prepare.records import Example, ShardPlan
from mdc_jax.data.sources.base import BadRecord, Family

SETTINGS = {"short_side": 256, "format": "JPEG", "quality": 95}
SHARES = {"train": 0.72, "validation": 0.13, "test": 0.15}
FAMILY = "folder"
MIN_IN_FOLDER = 50  # pictures that make a top folder a label
SHARD_SIZE = 256  # pictures


@dataclasses.dataclass(frozen=True)
class Picture:
    """A file of a source. Pictures that share any of their concepts come into the same split."""

    path: pathlib.Path
    name: str  # path within the source, with /
    captions: tuple[str, ...]
    concepts: tuple[Hashable, ...]

    @property
    def folder(self) -> str:
        """The top folder; "" for a picture in none."""
        return self.name.rpartition("/")[0].partition("/")[0]


@dataclasses.dataclass(frozen=True)
class Collection:
    """The usable pictures of a source, and how many others it had, by reason."""

    source: str
    licence: str
    attribution: str
    pictures: Sequence[Picture]
    dropped: Mapping[str, int]


def words(text: str) -> str:
    """A text without case and punctuation, to compare titles."""
    return " ".join("".join(c if c.isalnum() else " " for c in text.casefold()).split())


def split_by_concept(pictures: Sequence[Picture]) -> dict[str, list[Picture]]:
    """Pictures of every split, in a random order that depends on their names alone.

    Pictures that share a concept, directly or through others, form a group; a hash of its first concept
    says where the group goes.
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
    splits: dict[str, list[Picture]] = {split: [] for split in SHARES}
    for picture in pictures:
        splits[_choose(str(root(picture.concepts[0])))].append(picture)
    return {split: sorted(chosen, key=lambda picture: _hash(picture.name)) for split, chosen in splits.items()}


def families(pictures: Sequence[Picture]) -> dict[str, Family]:
    """The label family of top folders with at least MIN_IN_FOLDER pictures; none if fewer than two are left."""
    counts = collections.Counter(picture.folder for picture in pictures)
    names = tuple(sorted(name for name, count in counts.items() if name and count >= MIN_IN_FOLDER))
    return {FAMILY: Family("class", names)} if len(names) > 1 else {}


def shards(splits: Mapping[str, Sequence[Picture]], labels: Mapping[str, Family]) -> list[ShardPlan]:
    """The files to write."""
    plans = []
    for split, pictures in splits.items():
        parts = [pictures[start : start + SHARD_SIZE] for start in range(0, len(pictures), SHARD_SIZE)]
        for number, part in enumerate(parts):
            name = f"{split}-{number:05d}-of-{len(parts):05d}.arrayrecord"
            plans.append(ShardPlan(name, split, _inputs(part, labels), len(part), _Examples(part, labels)))
    return plans


@dataclasses.dataclass(frozen=True)
class _Examples:
    """The examples of a shard, made when they are asked for."""

    pictures: Sequence[Picture]
    families: Mapping[str, Family]

    def __call__(self) -> Iterator[Example | BadRecord]:
        for picture in self.pictures:
            labels = {
                name: family.names.index(picture.folder) if picture.folder in family.names else -1
                for name, family in self.families.items()
            }
            try:
                yield Example(render(picture.path), picture.captions, labels, {"file": picture.name})
            except BadRecord as fault:
                yield fault


def render(path: pathlib.Path) -> bytes:
    """A picture file as JPEG on white, its short side at most SETTINGS["short_side"]; raises BadRecord."""
    short = SETTINGS["short_side"]
    data = _render_svg(path, short) if path.suffix.lower() == ".svg" else path.read_bytes()
    return encode.jpeg(images.decode(data), short, SETTINGS["quality"])


def _render_svg(path: pathlib.Path, short: int) -> bytes:
    """A drawing as PNG; without the system's fonts, so that it looks the same everywhere."""
    render = functools.partial(resvg_py.svg_to_bytes, svg_path=os.fspath(path), dpi=96, skip_system_fonts=True)
    try:
        picture = bytes(render(width=short))
        pixels = images.decode(picture)
        if pixels.min() == pixels.max():
            raise BadRecord("blank drawing, as of text without fonts")
        return picture if pixels.shape[0] >= pixels.shape[1] else bytes(render(height=short))
    except BadRecord:
        raise
    except ValueError as error:
        raise BadRecord("damaged SVG") from error


def _inputs(pictures: Sequence[Picture], labels: Mapping[str, Family]) -> str:
    digest = hashlib.sha256(repr((SETTINGS, sorted(labels.items()))).encode())
    for picture in pictures:
        digest.update(repr((picture.name, picture.captions)).encode())
        digest.update(hashlib.sha256(picture.path.read_bytes()).digest())
    return digest.hexdigest()


def _choose(concept: str) -> str:
    left = _hash(concept) / 2**64
    for split, share in SHARES.items():
        left -= share
        if left < 0:
            return split
    return split


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
