"""What a scene holds, and the law that scenes follow.

A scene is a pure function of (seed, split, index). Lengths and positions are shares of the
image's side, with x to the right and y downwards. README.md of this folder is the definition.
"""

import dataclasses
import random
from collections.abc import Sequence

from mdc_jax.data.draws import below, sample

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COLOURS = ("red", "green", "blue", "yellow", "cyan", "magenta")
SIZES = ("small", "large")
TEXTURES = ("plain", "striped")
BACKGROUNDS = ("black", "dark", "grey")
COUNTS = ("one", "two", "three")
ROWS = ("top", "middle", "bottom")
COLUMNS = ("left", "centre", "right")
RELATIONS = (("left", "of"), ("right", "of"), ("higher", "than"), ("lower", "than"))

LAYOUTS = ("grid", "free")
SPLITS = ("train", "validation", "test", "withheld")

LEVELS = (8, 42, 78)  # grey level of each background
LEVEL_JITTER = 7
RADII = {"grid": ((0.10, 0.12), (0.14, 0.16)), "free": ((0.11, 0.13), (0.16, 0.175))}  # by size
GRID_JITTER = 0.03
FREE_GAP = 0.01  # between two objects, and between an object and the border
CLEAR = 3.0  # a direction is clear where one displacement exceeds this many times the other

_ATTEMPTS = 10_000
_CODES = 12
_SPLIT_CODES = {
    "train": (1, 2, 3, 4, 5, 7, 8, 9, 10, 11),
    "validation": (6,),
    "test": (0,),
    "withheld": tuple(range(_CODES)),  # the other splits have none of its pairs
}


class Placed:
    """What has a size (0 small, 1 large) and a centre, which lies in one of 3 x 3 parts of the image."""

    __slots__ = ()
    size: int
    x: float
    y: float

    @property
    def row(self) -> int:
        """The third of the image, from the top, that holds the centre."""
        return int(3 * self.y)

    @property
    def column(self) -> int:
        """The third of the image, from the left, that holds the centre."""
        return int(3 * self.x)


@dataclasses.dataclass(frozen=True, slots=True)
class Object(Placed):
    """Indices into SHAPES, COLOURS, SIZES and TEXTURES; centre and radius."""

    shape: int
    colour: int
    size: int
    texture: int
    x: float
    y: float
    radius: float

    @property
    def words(self) -> frozenset[str]:
        """The words for its attributes."""
        return frozenset((SHAPES[self.shape], COLOURS[self.colour], SIZES[self.size], TEXTURES[self.texture]))


@dataclasses.dataclass(frozen=True, slots=True)
class Scene:
    """An index into BACKGROUNDS, the grey level, and one to three objects of distinct shapes and colours."""

    background: int
    level: int
    objects: tuple[Object, ...]


def relation(a: Placed, b: Placed) -> int | None:
    """Index of the relation in "a is RELATION b"; None where the direction is not clear."""
    dx, dy = a.x - b.x, a.y - b.y
    if abs(dx) > CLEAR * abs(dy):
        return 0 if dx < 0 else 1
    if abs(dy) > CLEAR * abs(dx):
        return 2 if dy < 0 else 3
    return None


def content_code(scene: Scene) -> int:
    """A number below 12 that decides which split may hold the scene, see `_SPLIT_CODES`.

    It depends on nothing but the background and each object's shape, colour, size, texture and
    third of the image, so two splits never share such a description, whatever their seeds. The
    coefficients are the result of a search: among the one-object scenes of an even code all
    attribute words are equally frequent, and all pairs of words within 4%.
    """
    objects = (_object_code(o.shape, o.colour, o.size, o.texture, o.row, o.column) for o in scene.objects)
    return (4 * scene.background + sum(objects)) % _CODES


def _object_code(shape: int, colour: int, size: int, texture: int, row: int, column: int) -> int:
    return shape + 5 * colour + 2 * shape * colour + 2 * row + 4 * column + 2 * size + texture


def stream(seed: int, split: str, index: int, purpose: int, splits: Sequence[str] = SPLITS) -> random.Random:
    """The random numbers of one record for one purpose.

    Only `.random()` is used: Python promises that its numbers stay the same in later versions. Records have
    indices below 2^40; what is no record, such as a foil, has a `purpose` of 2 to 511, in the bits above.
    """
    purpose, last = divmod(purpose, 2)
    return random.Random((((seed * len(splits) + splits.index(split)) << 48) + (purpose << 40) + index) * 2 + last)


def compose(
    split: str,
    index: int,
    *,
    seed: int = 0,
    layout: str = "grid",
    prior: float = 0.0,
    withheld: tuple[frozenset[str], ...] = (),
) -> Scene:
    """Scene `index` of a split.

    Args:
        prior: probability that an object of the training split has the colour that belongs to its
            shape (COLOURS[i] to SHAPES[i]); the other splits are balanced.
        withheld: pairs of attribute words. Split "withheld" has only scenes with an object that
            both words of a pair are true of; the other splits have none.

    Raises:
        ValueError: if the withheld pairs leave no scene to draw.
    """
    return draw(stream(seed, split, index, 0), split, layout=layout, prior=prior, withheld=withheld)


def draw(
    rng: random.Random,
    split: str,
    *,
    layout: str = "grid",
    prior: float = 0.0,
    withheld: tuple[frozenset[str], ...] = (),
) -> Scene:
    """A random scene of a split; see `compose`."""
    count = 1 + below(rng, len(COUNTS))  # drawn once, so that withheld pairs do not change how often each count occurs
    prior = prior if split == "train" else 0.0
    for _ in range(_ATTEMPTS):
        scene = _draw(rng, split, count, layout, prior)
        if _has_its_pairs(scene, split, withheld):
            return scene
    pairs = "+".join("-".join(sorted(pair)) for pair in withheld)
    raise ValueError(
        f"no scene of {count} objects found for split {split!r} with withheld={pairs}; withhold fewer pairs"
    )


def belongs(scene: Scene, split: str, withheld: tuple[frozenset[str], ...] = ()) -> bool:
    """Whether the split may hold the scene."""
    return content_code(scene) in _SPLIT_CODES[split] and _has_its_pairs(scene, split, withheld)


def _has_its_pairs(scene: Scene, split: str, withheld: tuple[frozenset[str], ...]) -> bool:
    """Whether one of the withheld pairs is there, in split "withheld", or none, in the others."""
    return not withheld or any(pair <= o.words for o in scene.objects for pair in withheld) == (split == "withheld")


def _draw(rng: random.Random, split: str, count: int, layout: str, prior: float) -> Scene:
    shapes = sample(rng, len(SHAPES), count)
    colours = _colours(rng, shapes, prior)
    sizes = [0] + [below(rng, 2) for _ in shapes[1:]]
    textures = [0] + [below(rng, 2) for _ in shapes[1:]]
    centres = draw_centres(rng, layout, count)
    # The code is drawn, and background and the first object's size and texture follow from it.
    codes = _SPLIT_CODES[split]
    code = codes[below(rng, len(codes))]
    rest = sum(
        _object_code(shape, colour, size, texture, int(3 * y), int(3 * x))
        for shape, colour, size, texture, (x, y) in zip(shapes, colours, sizes, textures, centres, strict=True)
    )
    background, digit = divmod((code - rest) % _CODES, 4)
    sizes[0], textures[0] = divmod(digit, 2)

    objects = []
    for shape, colour, size, texture, (x, y) in zip(shapes, colours, sizes, textures, centres, strict=True):
        radius = draw_radius(rng, layout, size)
        x, y = jittered(rng, layout, x, y, radius)
        objects.append(Object(shape, colour, size, texture, x, y, radius))
    level = LEVELS[background] + below(rng, 2 * LEVEL_JITTER + 1) - LEVEL_JITTER
    return Scene(background, level, tuple(objects))


def _colours(rng: random.Random, shapes: list[int], prior: float) -> list[int]:
    """Distinct colours; each one that of its shape with probability `prior`, else any that is left."""
    if not prior:
        return sample(rng, len(COLOURS), len(shapes))
    tied = [rng.random() < prior for _ in shapes]
    taken = {shape for shape, is_tied in zip(shapes, tied, strict=True) if is_tied}
    left = [colour for colour in sample(rng, len(COLOURS), len(COLOURS)) if colour not in taken]
    return [shape if is_tied else left.pop() for shape, is_tied in zip(shapes, tied, strict=True)]


def draw_radius(rng: random.Random, layout: str, size: int) -> float:
    """The radius of an object of this size."""
    low, high = RADII[layout][size]
    return low + (high - low) * rng.random()


def jittered(rng: random.Random, layout: str, x: float, y: float, radius: float) -> tuple[float, float]:
    """Where the centre of an object comes to lie that was given this one; on the grid, that is of a cell."""
    # On the grid an object stays in its cell, so large ones move less.
    jitter = min(GRID_JITTER, 1 / 6 - radius) if layout == "grid" else 0.0
    x += jitter * (2 * rng.random() - 1)
    y += jitter * (2 * rng.random() - 1)
    return x, y


def draw_centres(rng: random.Random, layout: str, count: int) -> list[tuple[float, float]]:
    """Where objects are, before `jittered`."""
    return free_centres(rng, count) if layout == "free" else _grid_centres(rng, count)


def _grid_centres(rng: random.Random, count: int) -> list[tuple[float, float]]:
    cells = (divmod(cell, 3) for cell in sample(rng, 9, count))
    return [((column + 0.5) / 3, (row + 0.5) / 3) for row, column in cells]


def free_centres(rng: random.Random, count: int) -> list[tuple[float, float]]:
    """Uniform positions at which objects of any size have room, so that positions say nothing of sizes."""
    largest = RADII["free"][1][1]
    low, span, apart = largest + FREE_GAP, 1 - 2 * (largest + FREE_GAP), 2 * largest + FREE_GAP
    while True:  # all of them anew where two are too close: to move one only would not be uniform
        centres: list[tuple[float, float]] = []
        while len(centres) < count:
            x, y = low + span * rng.random(), low + span * rng.random()
            if any(abs(x - a) < apart and abs(y - b) < apart for a, b in centres):
                break
            centres.append((x, y))
        else:
            return centres
