"""Collages of real pictures, composed on demand, see `mdc_jax/data/collage/README.md`.

collage:DIR:SPLIT[,size=96][,layout=free][,titles=N][,sentences=2][,seed=0][,count=N]
"""

import dataclasses
import functools
import hashlib
import pathlib
import random
from collections.abc import Mapping

import numpy as np
from etils import epath

from mdc_jax.config.parse import did_you_mean
from mdc_jax.data import foil_kinds
from mdc_jax.data.checksums import Written
from mdc_jax.data.collage import draw, grammar, labels, layout, parse
from mdc_jax.data.collage.foils import CollageFoils
from mdc_jax.data.foils import Drawn
from mdc_jax.data.prepare.manifest import MANIFEST
from mdc_jax.data.scenes import forms
from mdc_jax.data.scenes.layout import LAYOUTS, stream
from mdc_jax.data.scenes.parse import Parse
from mdc_jax.data.sources import array_record, options
from mdc_jax.data.sources.base import Verdict
from mdc_jax.data.sources.composed import Composed

VERSION = 1  # of the definition; part of every fingerprint

_TRAIN_COUNT, _COUNT = 1_000_000, 20_000
_MOST = 1 << 40
_SENTENCES = (2, 3, 4)
_LATER = {"layout": "free", "titles": 0}  # knobs that the first definition did not have, with their defaults
_KNOBS = {"size": int, "layout": str, "titles": int, "sentences": int, "seed": int, "count": int}
# Of at most 64 KiB each: decoding is half of the work.
_decoded = functools.lru_cache(maxsize=4096)(draw.decode)


@dataclasses.dataclass(frozen=True)
class Settings:
    """The knobs of the data set.

    Raises:
        ValueError: for a value outside its range.
    """

    split: str
    size: int = 96  # pixels
    layout: str = "free"  # of scenes
    titles: int = 0  # of each kind and number of words, those of most pictures; 0: all
    sentences: int = 2  # per caption
    seed: int = 0
    count: int = 0  # collages; 0: the split's default

    def __post_init__(self):
        check = functools.partial(options.check, "collage")
        check("size", self.size, 32 <= self.size <= 1024, "32 to 1024 pixels")
        check("layout", self.layout, self.layout in LAYOUTS, "one of " + ", ".join(LAYOUTS))
        check("titles", self.titles, 0 <= self.titles <= _MOST, "1 or more, or 0 for all")
        check("sentences", self.sentences, self.sentences in _SENTENCES, "2, 3 or 4")
        check("seed", self.seed, 0 <= self.seed < 1 << 63, "0 or more")
        check("count", self.count, 0 <= self.count <= _MOST, f"0 to {_MOST}")


class CollageSource(Composed[layout.Collage]):
    """Collages of the cut-outs of one split; `source[i]` draws collage i."""

    foil_kinds = all_foil_kinds = foil_kinds.KINDS
    unsafe: Mapping[str, str] = {
        "flip": "they say left and right",
        "random_crop": "it cuts away things that they name, count or place",
        "color_jitter": "titles may name colours",
    }

    def __init__(self, spec: str, directory: pathlib.Path, settings: Settings):
        self.spec = spec
        self.settings = settings
        stock = _load(directory, settings.split)
        self._images, self._kinds = stock.images, len(stock.kinds)
        self._shelf = layout.Shelf(list(zip(stock.titles, stock.kinds_of, strict=True)), settings.titles)
        self._titles = _titles(directory)
        self.written = stock.written
        self.families = labels.families(stock.kinds)
        knobs = options.identity(settings, _LATER) | {"count": len(self)}
        text = repr((VERSION, stock.fingerprint, sorted(knobs.items())))
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()

    def __len__(self) -> int:
        return self.settings.count or (_TRAIN_COUNT if self.settings.split == "train" else _COUNT)

    def compose(self, index: int) -> layout.Collage:
        return layout.compose(self.stream(index, 0), self._shelf, self.settings.layout)

    def draw(self, contents: layout.Collage) -> np.ndarray:
        return draw.draw(contents, self.settings.size, lambda number: _decoded(self._images[number]))

    def label(self, contents: layout.Collage) -> Mapping[str, np.ndarray]:
        return labels.labels(contents, self._kinds)

    def caption(self, contents: layout.Collage, rng: random.Random) -> str:
        return grammar.caption(contents, rng, self.settings.sentences)

    def parse(self, caption: str) -> Parse:
        return parse.parse(caption, self.settings.sentences, self._titles)

    def judge(self, parsed: Parse, contents: layout.Collage) -> Verdict:
        return parse.judge(parsed, contents, self._titles)

    def compose_foil(self, kind: str, rng: random.Random) -> Drawn:
        s = self.settings
        return foil_kinds.draw(
            kind, rng, CollageFoils(self._shelf, self._titles, layout=s.layout, sentences=s.sentences)
        )

    def stream(self, index: int, purpose: int) -> random.Random:
        return stream(self.settings.seed, self.settings.split, index, purpose, layout.SPLITS)

    @staticmethod
    def word_kind(word: str) -> str:
        """What kind of word it is, whatever it says."""
        return forms.KINDS.get(word, word) if word in grammar.RESERVED else "TITLE"


@dataclasses.dataclass(frozen=True)
class _Stock:
    """The cut-outs of a split."""

    images: tuple[bytes, ...]
    titles: tuple[str, ...]
    kinds_of: tuple[int, ...]
    kinds: tuple[str, ...]
    fingerprint: str
    written: Mapping[epath.Path, Written]


@functools.lru_cache(maxsize=16)
def _load_once(directory: pathlib.Path, split: str, _: int) -> _Stock:
    source = array_record.open(f"{directory / layout.CUTOUTS}:{split}")
    records = [source[index] for index in range(len(source))]
    return _Stock(
        images=tuple(record.image for record in records),
        titles=tuple(record.captions[0] for record in records),
        kinds_of=tuple(int(record.labels[layout.FAMILY]) for record in records),
        kinds=source.families[layout.FAMILY].names,
        fingerprint=source.fingerprint,
        written=source.written,
    )


def _load(directory: pathlib.Path, split: str) -> _Stock:
    """Reads a split into memory (some 40 MB), once as long as the files stay as they are."""
    return _load_once(directory, split, (directory / layout.CUTOUTS / MANIFEST).stat().st_mtime_ns)


def _titles(directory: pathlib.Path) -> Mapping[str, int]:
    """A number for every title of all splits: what captions may name."""
    manifest = array_record.Manifest.read(directory / layout.CUTOUTS)
    titles = sorted({title for split in manifest.splits() for title in _load(directory, split).titles})
    return {title: number for number, title in enumerate(titles)}


def open(rest: str) -> CollageSource:
    """The source that a spec "collage:REST" stands for, as in "data/pictures:train,size=64,sentences=3".

    Raises:
        FileNotFoundError: DIR holds no cut-outs.
        ValueError: for an unknown split or key, a value that does not fit it, or too few cut-outs.
    """
    place, *items = rest.split(",")
    directory, _, split = place.rpartition(":")
    if not (pathlib.Path(directory) / layout.CUTOUTS / MANIFEST).exists():
        raise FileNotFoundError(
            f"collage: {directory or place!r} has no cut-outs; write collage:DIR:SPLIT with a DIR that `python -m "
            "mdc_jax.data.prepare.pictures --out=DIR --source=tuxpaint,openclipart,emoji` made"
        )
    if split not in layout.SPLITS:
        raise ValueError(f"collage: split {split!r} is unknown{did_you_mean(split, layout.SPLITS)}")
    knobs = options.read("collage", items, _KNOBS)
    return CollageSource(f"collage:{rest}", pathlib.Path(directory), Settings(split, **knobs))
