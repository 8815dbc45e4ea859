"""What a collage holds, and the law that collages follow. README.md of this folder is the definition."""

import collections
import dataclasses
import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mdc_jax.data.draws import below
from mdc_jax.data.scenes.layout import Placed, draw_centres, draw_radius, jittered

COUNTS = ("two", "three")
FEWEST = 2
TITLE_LENGTHS = (1, 2)  # words, equally likely
CUTOUTS = "cutouts"  # the folder of the cut-outs, within that of the pictures
FAMILY = "kind"  # their labels
SPLITS = ("train", "validation", "test", "style", "style_seen")
TEXTURES = ("plain", "gradient", "stripes", "checks", "clouds")

_PLAIN = 0.5  # of the backgrounds
_DARKEST = 150  # level of a background's colours; lines are mostly dark
_CONTRAST = 45  # levels between the two colours of a texture


class Background(NamedTuple):
    """A texture of two RGB colours, and the seed and direction (radians) of its pattern."""

    texture: str
    colours: tuple[tuple[int, int, int], tuple[int, int, int]]
    seed: int
    direction: float


@dataclasses.dataclass(frozen=True, slots=True)
class Item(Placed):
    """A cut-out (its number on the shelf) with its title and kind, its size, its centre and half its longer side."""

    cutout: int
    title: str
    kind: int
    size: int
    x: float
    y: float
    radius: float

    @property
    def title_length(self) -> int:
        """Words of the title."""
        return len(self.title.split())


@dataclasses.dataclass(frozen=True, slots=True)
class Collage:
    """Two or three cut-outs of different titles on a background."""

    background: Background
    items: tuple[Item, ...]


class Shelf:
    """Cut-outs by kind and number of words of the title, then by title.

    Raises:
      ValueError: if there are not two kinds that have titles of every length, or fewer titles of one than things that
        a collage can hold.
    """

    def __init__(self, cutouts: Sequence[tuple[str, int]], most: int = 0) -> None:
        """`cutouts`: title and kind of each, in an order of no importance beside being the same every time; `most`:
        titles of a kind and length that are kept, those of most pictures (0: all)."""
        found: Mapping[tuple[int, int], dict[str, list[int]]] = collections.defaultdict(dict)
        for number, (title, kind) in enumerate(cutouts):
            found[kind, len(title.split())].setdefault(title, []).append(number)
        kinds = sorted({kind for kind, _ in found})
        self.kinds = tuple(kind for kind in kinds if all((kind, length) in found for length in TITLE_LENGTHS))
        if len(self.kinds) < 2:
            raise ValueError(f"{len(cutouts)} cut-outs have no two kinds with titles of {TITLE_LENGTHS} words")
        self._titles = {
            key: sorted(sorted(titles.items(), key=lambda item: (-len(item[1]), item[0]))[: most or None])
            for key, titles in found.items()
            if key[0] in self.kinds
        }
        needed = FEWEST + len(COUNTS) - 1
        for length in TITLE_LENGTHS:
            kept = {title for kind in self.kinds for title, _ in self._titles[kind, length]}
            if len(kept) < needed:
                raise ValueError(
                    f"{len(kept)} titles of {length} word(s), but collages of {needed} things, no two of the same, "
                    "need as many: give more, or a larger titles="
                )

    def draw(self, rng: random.Random, length: int) -> tuple[str, int, int]:
        """Title of this many words, kind and number of a cut-out: first the kind, then the title, then the picture."""
        kind = self.kinds[below(rng, len(self.kinds))]
        titles = self._titles[kind, length]
        title, numbers = titles[below(rng, len(titles))]
        return title, kind, numbers[below(rng, len(numbers))]


def compose(rng: random.Random, shelf: Shelf, layout: str = "free") -> Collage:
    """A collage of things from the shelf, in a layout of scenes."""
    count = FEWEST + below(rng, len(COUNTS))
    things: list[tuple[str, int, int]] = []
    for _ in range(count):
        length = TITLE_LENGTHS[below(rng, len(TITLE_LENGTHS))]
        thing = shelf.draw(rng, length)
        while any(thing[0] == title for title, _, _ in things):
            thing = shelf.draw(rng, length)
        things.append(thing)
    items = []
    for (title, kind, number), (x, y) in zip(things, draw_centres(rng, layout, count), strict=True):
        size = below(rng, 2)
        radius = draw_radius(rng, layout, size)
        items.append(Item(number, title, kind, size, *jittered(rng, layout, x, y, radius), radius))
    return Collage(_background(rng), tuple(items))


def _background(rng: random.Random) -> Background:
    plain = rng.random() < _PLAIN
    texture = TEXTURES[0] if plain else TEXTURES[1 + below(rng, len(TEXTURES) - 1)]
    first = [_DARKEST + below(rng, 256 - _DARKEST) for _ in range(3)]
    lighter = sum(first) < 3 * (_DARKEST + 255) // 2
    step = _CONTRAST if lighter else -_CONTRAST
    second = [min(255, max(_DARKEST - _CONTRAST, level + step)) for level in first]
    return Background(texture, (tuple(first), tuple(second)), below(rng, 1 << 31), 3.14159265 * rng.random())
