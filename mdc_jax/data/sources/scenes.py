"""The built-in data set: scenes rendered on demand, see `mdc_jax/data/scenes/README.md`.

scenes:SPLIT[,size=48][,layout=grid][,sentences=1][,redundancy=0][,background=first|last][,lengths=equal]
            [,prior=0][,withheld=red-circle+large-star][,seed=0][,count=N]
"""

import dataclasses
import functools
import hashlib
import random
from collections.abc import Callable, Mapping

import numpy as np

from mdc_jax.config.parse import did_you_mean
from mdc_jax.data import foil_kinds
from mdc_jax.data.foils import Drawn
from mdc_jax.data.scenes import draw, grammar, labels, layout, parse
from mdc_jax.data.scenes.foils import PRIOR, SceneFoils, replace_attribute_prior
from mdc_jax.data.scenes.parse import Parse
from mdc_jax.data.sources import options
from mdc_jax.data.sources.base import Family, Verdict
from mdc_jax.data.sources.composed import Composed

VERSION = 1  # of the definition; part of every fingerprint

_COUNTS = {"train": 1_000_000, "validation": 20_000, "test": 20_000, "withheld": 20_000}
_MOST_SCENES = 1 << 40
_LATER = {"background": "", "lengths": "equal"}  # knobs that the first definition did not have, with their defaults


@dataclasses.dataclass(frozen=True)
class Settings:
    """The knobs of the data set.

    Raises:
        ValueError: for a value outside its range.
    """

    split: str
    size: int = 48  # pixels
    layout: str = "grid"
    sentences: int = 1  # this and the next three: see grammar.Wording
    redundancy: float = 0.0
    background: str = ""
    lengths: str = "equal"
    prior: float = 0.0  # see layout.compose
    withheld: tuple[frozenset[str], ...] = ()  # pairs of attribute words that training does not show together
    seed: int = 0
    count: int = 0  # scenes; 0: the split's default

    def __post_init__(self):
        check = functools.partial(options.check, "scenes")
        check("split", self.split, self.split in layout.SPLITS, "one of " + ", ".join(layout.SPLITS))
        check("size", self.size, 16 <= self.size <= 1024, "16 to 1024 pixels")
        check("layout", self.layout, self.layout in layout.LAYOUTS, "one of " + ", ".join(layout.LAYOUTS))
        check("sentences", self.sentences, self.sentences in (1, 2, 4), "1, 2 or 4")
        check("redundancy", self.redundancy, 0 <= self.redundancy <= 1, "from 0 to 1")
        check("redundancy", self.redundancy, not self.redundancy or self.sentences > 1, "0 where sentences=1")
        check("background", self.background, self.background in grammar.BACKGROUND_PLACES, "first or last")
        check("lengths", self.lengths, self.lengths in grammar.LENGTHS, "one of " + ", ".join(grammar.LENGTHS))
        check("prior", self.prior, 0 <= self.prior <= 1, "from 0 to 1")
        check("seed", self.seed, 0 <= self.seed < 1 << 63, "0 or more")
        check("count", self.count, 0 <= self.count <= _MOST_SCENES, f"0 to {_MOST_SCENES}")
        if self.split == "withheld" and not self.withheld:
            raise ValueError("split 'withheld' needs the pairs, such as withheld=red-circle+large-star")

    @property
    def wording(self) -> grammar.Wording:
        """How captions speak."""
        return grammar.Wording(self.sentences, self.redundancy, self.background, self.lengths)


class ScenesSource(Composed[layout.Scene]):
    """Scenes of one split; `source[i]` draws scene i. Labels are computed when asked for."""

    families: Mapping[str, Family] = labels.FAMILIES
    unsafe: Mapping[str, str] = {
        "flip": "they say left and right",
        "random_crop": "it cuts away objects that they name, count or place",
        "color_jitter": "they name colours and textures",
    }
    all_foil_kinds = (*foil_kinds.KINDS, PRIOR)

    def __init__(self, spec: str, settings: Settings):
        self.spec = spec
        self.settings = settings
        self.foil_kinds = self.all_foil_kinds if settings.prior else foil_kinds.KINDS
        knobs = options.identity(settings, _LATER) | {
            "withheld": sorted(map(sorted, settings.withheld)),
            "count": len(self),
        }
        self.fingerprint = hashlib.sha256(repr((VERSION, sorted(knobs.items()))).encode()).hexdigest()

    def __len__(self) -> int:
        return self.settings.count or _COUNTS[self.settings.split]

    def compose(self, index: int) -> layout.Scene:
        s = self.settings
        return layout.compose(s.split, index, seed=s.seed, layout=s.layout, prior=s.prior, withheld=s.withheld)

    def draw(self, contents: layout.Scene) -> np.ndarray:
        return draw.draw(contents, self.settings.size)

    def label(self, contents: layout.Scene) -> Mapping[str, np.ndarray]:
        return labels.Labels(contents)

    def caption(self, contents: layout.Scene, rng: random.Random) -> str:
        return grammar.caption(contents, rng, self.settings.wording)

    def parse(self, caption: str) -> Parse:
        return parse.parse(caption, self.settings.sentences, self.settings.background)

    def judge(self, parsed: Parse, contents: layout.Scene) -> Verdict:
        return parse.judge(parsed, contents)

    def compose_foil(self, kind: str, rng: random.Random) -> Drawn:
        s = self.settings
        scenes = SceneFoils(s.split, s.layout, s.withheld, s.wording)
        return foil_kinds.draw(kind, rng, scenes, {PRIOR: replace_attribute_prior})

    def stream(self, index: int, purpose: int) -> random.Random:
        return layout.stream(self.settings.seed, self.settings.split, index, purpose)

    @staticmethod
    def word_kind(word: str) -> str:
        """What kind of word it is, whatever it says."""
        return grammar.KINDS.get(word, word)


def open(rest: str) -> ScenesSource:
    """The source that a spec "scenes:REST" stands for, as in "train,size=64,layout=free".

    Raises:
        ValueError: for an unknown split or key, or a value that does not fit it.
    """
    split, *items = rest.split(",")
    if split not in layout.SPLITS:
        raise ValueError(
            f"scenes: split {split!r} is unknown{did_you_mean(split, layout.SPLITS)}; the spec starts with the split"
        )
    knobs = options.read("scenes", items, _READERS)
    return ScenesSource(f"scenes:{rest}", Settings(split, **knobs))


def _pairs(text: str) -> tuple[frozenset[str], ...]:
    """Reads "red-circle+large-star"."""
    kinds = {word: kind for kind, words in enumerate(_ATTRIBUTES) for word in words}
    pairs = []
    for pair in text.split("+"):
        words = pair.split("-")
        for word in words:
            if word not in kinds:
                raise ValueError(f"{word!r} is no attribute{did_you_mean(word, kinds)}")
        if len({kinds[word] for word in words}) != 2 or len(words) != 2:
            raise ValueError(f"{pair!r} must be two attributes of different kinds, such as red-circle")
        pairs.append(frozenset(words))
    return tuple(pairs)


_ATTRIBUTES = (layout.SHAPES, layout.COLOURS, layout.SIZES, layout.TEXTURES)
_READERS: Mapping[str, Callable[[str], object]] = {
    "size": int,
    "layout": str,
    "sentences": int,
    "redundancy": float,
    "background": str,
    "lengths": str,
    "prior": float,
    "withheld": _pairs,
    "seed": int,
    "count": int,
}
