"""Foils of images whose captions can be parsed: what scenes and collages share.

Each kind draws an image and a true caption until the caption makes the claim that the kind is about. Replacing and
swapping give a second image and the caption that says of it what the first one says of the first image; adding gives a
longer caption, which is false. README.md of `scenes` is the definition.

An image is what it holds, a W: a scene or a collage.
"""

import abc
import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from mdc_jax.data.scenes.layout import Placed, below, draw_centres, draw_radius, jittered, relation
from mdc_jax.data.scenes.parse import Parse
from mdc_jax.data.scenes.telling import Telling

PAIRS = ("replace_object", "replace_attribute", "replace_relation", "swap_object", "swap_attribute")
ADDED = ("add_object", "add_attribute")
KINDS = PAIRS + ADDED

_ATTEMPTS = 20_000
_MOVES = 30  # of the objects of one image

W = TypeVar("W")


class Drawn(NamedTuple):
    """What the images of a foil hold, and its captions, see `sources.base.Foil`."""

    images: tuple[Any, ...]
    captions: tuple[str, str]


class Foils(abc.ABC, Generic[W]):
    """How to make foils of images of a certain kind: one subclass for each."""

    object_kind: str  # of the claims that name an object
    fields: Mapping[str, str]  # kinds of claims on attributes, in the order of the words → fields of an object
    layout: str  # as of scenes
    most_words: int  # of a caption

    @abc.abstractmethod
    def compose(self, rng: random.Random) -> W:
        """What an image holds."""

    @abc.abstractmethod
    def caption(self, rng: random.Random, image: W) -> str:
        """A true caption."""

    @abc.abstractmethod
    def parse(self, caption: str) -> Parse: ...

    @abc.abstractmethod
    def right(self, parsed: Parse, image: W) -> bool:
        """Whether all of a caption is true of an image."""

    @abc.abstractmethod
    def objects(self, image: W) -> tuple[Any, ...]: ...

    @abc.abstractmethod
    def with_objects(self, image: W, objects: Sequence[Any]) -> W:
        """The image with other objects in the place of its own."""

    @abc.abstractmethod
    def name(self, item: Any) -> int:
        """What the parser calls an object."""

    @abc.abstractmethod
    def name_words(self, item: Any) -> tuple[str, ...]: ...

    @abc.abstractmethod
    def attribute_word(self, item: Any, kind: str) -> str: ...

    @abc.abstractmethod
    def renamed(self, rng: random.Random, image: W, item: Any) -> Any | None:
        """The object as another one, whose name is as long and which is not in the image; None if there is none."""

    @abc.abstractmethod
    def other_value(self, rng: random.Random, image: W, item: Any, kind: str) -> int:
        """Another value of an attribute, which the image allows."""

    @abc.abstractmethod
    def stranger(self, rng: random.Random, image: W) -> tuple[str, ...] | None:
        """The name, with attributes, of an object that is not in the image; None if there is none."""

    def belongs(self, image: W) -> bool:
        """Whether the split may hold the image."""
        return True

    def settled(self, rng: random.Random, image: W, other: W, told: Telling) -> W | None:
        """`other` brought into the split by changes of what a caption of `image` leaves open; None where none do."""
        return other

    def draw(self, kind: str, rng: random.Random) -> Drawn:
        """A random foil; raises ValueError where none is found in a large number of attempts."""
        make = self.maker(kind)
        for _ in range(_ATTEMPTS):
            image = self.compose(rng)
            found = make(self, rng, image, self.tell(rng, image))
            if found is not None:
                return found
        raise ValueError(
            f"no foil of kind {kind} found in {_ATTEMPTS:,} attempts: the settings leave too few images; withhold "
            "fewer pairs, prepare more pictures, or leave this kind out"
        )

    def maker(self, kind: str) -> "Maker":
        """What makes a foil of a kind from an image and a caption of it, or None where they do not suit."""
        return _MAKE[kind]

    def tell(self, rng: random.Random, image: W) -> Telling:
        """A random caption of an image."""
        words = tuple(self.caption(rng, image).split())
        parsed = self.parse(" ".join(words))
        return Telling(words, parsed, self.object_kind, tuple(self.fields), self.name_words, self.attribute_word)

    def index(self, image: W, name: int) -> int:
        """The place of a named object among those of the image."""
        return [self.name(item) for item in self.objects(image)].index(name)

    def changed(self, image: W, index: int, item: Any) -> W:
        """The image with one object replaced."""
        objects = list(self.objects(image))
        objects[index] = item
        return self.with_objects(image, objects)

    def with_value(self, rng: random.Random, item: Any, kind: str, value: int) -> Any:
        """The object with another value of an attribute."""
        if self.fields[kind] != "size":
            return dataclasses.replace(item, **{self.fields[kind]: value})
        resized = dataclasses.replace(item, size=value, radius=draw_radius(rng, self.layout, value))
        return self.placed(rng, resized, item)

    def placed(self, rng: random.Random, item: Any, where: Placed) -> Any:
        """The object at the place of another one; on the grid, where its size allows within that one's cell."""
        x, y = ((where.column + 0.5) / 3, (where.row + 0.5) / 3) if self.layout == "grid" else (where.x, where.y)
        x, y = jittered(rng, self.layout, x, y, item.radius)
        return dataclasses.replace(item, x=x, y=y)

    def retold(self, told: Telling, image: W, other: W) -> tuple[str, ...] | None:
        """What a caption of an image says, said of another one with as many objects."""
        names = [self.name(item) for item in self.objects(image)]
        return told.retold(dict(zip(names, self.objects(other), strict=True)))

    def pair(self, told: Telling, image: W, other: W, words: tuple[str, ...] | None) -> Drawn | None:
        """Two images with their captions, unless the captions do not tell them apart."""
        if words is None or self.right(told.parsed, other):
            return None
        parsed = self.parse(" ".join(words))
        if self.right(parsed, image) or not self.right(parsed, other):
            return None
        return Drawn((image, other), (" ".join(told.words), " ".join(words)))

    def single(self, told: Telling, image: W, words: tuple[str, ...]) -> Drawn | None:
        """An image with a true caption and one that is not, unless that one is too long or true."""
        if len(words) > self.most_words or self.right(self.parse(" ".join(words)), image):
            return None
        return Drawn((image,), (" ".join(told.words), " ".join(words)))


def choose(rng: random.Random, items: Sequence[Any]) -> Any:
    """One of the items, which are equally likely; None if there is none."""
    return items[below(rng, len(items))] if items else None


Maker = Callable[[Foils, random.Random, Any, Telling], Drawn | None]


def _replace_object(foils: Foils, rng: random.Random, image: Any, told: Telling) -> Drawn | None:
    index = foils.index(image, choose(rng, told.names))
    item = foils.renamed(rng, image, foils.objects(image)[index])
    return None if item is None else _replaced(foils, rng, image, told, index, item)


def _replace_attribute(foils: Foils, rng: random.Random, image: Any, told: Telling) -> Drawn | None:
    stated = choose(rng, told.stated)
    if stated is None:
        return None
    kind, name = stated
    index = foils.index(image, name)
    item = foils.objects(image)[index]
    changed = foils.with_value(rng, item, kind, foils.other_value(rng, image, item, kind))
    return _replaced(foils, rng, image, told, index, changed)


def _replaced(foils: Foils, rng: random.Random, image: Any, told: Telling, index: int, item: Any) -> Drawn | None:
    other = foils.settled(rng, image, foils.changed(image, index, item), told)
    return None if other is None else foils.pair(told, image, other, foils.retold(told, image, other))


def _replace_relation(foils: Foils, rng: random.Random, image: Any, told: Telling) -> Drawn | None:
    chosen = choose(rng, told.related)
    if chosen is None:
        return None
    before = _relations(foils, image, told)
    for _ in range(_MOVES):
        objects = foils.objects(image)
        centres = draw_centres(rng, foils.layout, len(objects))
        moved = []
        for item, (x, y) in zip(objects, centres, strict=True):
            x, y = jittered(rng, foils.layout, x, y, item.radius)
            moved.append(dataclasses.replace(item, x=x, y=y))
        other = foils.with_objects(image, moved)
        after = _relations(foils, other, told)
        kept = all((after[pair] == stated) == (pair != chosen) for pair, stated in before.items())
        if kept and after[chosen] is not None and foils.belongs(other):
            return foils.pair(told, image, other, foils.retold(told, image, other))
    return None


def _relations(foils: Foils, image: Any, told: Telling) -> dict[frozenset[int], int | None]:
    """By pair of names, the relation of that with the smaller name to the other."""
    named = {foils.name(item): item for item in foils.objects(image)}
    return {pair: relation(*(named[name] for name in sorted(pair))) for pair in told.related}


def _swap_object(foils: Foils, rng: random.Random, image: Any, told: Telling) -> Drawn | None:
    if len(told.names) < 2:
        return None
    first = choose(rng, told.names)
    second = choose(rng, [name for name in told.names if name != first])
    objects = list(foils.objects(image))
    one, two = (foils.index(image, name) for name in (first, second))
    objects[one], objects[two] = (foils.placed(rng, objects[a], objects[b]) for a, b in ((one, two), (two, one)))
    other = foils.with_objects(image, objects)
    return foils.pair(told, image, other, told.exchanged(first, second)) if foils.belongs(other) else None


def _swap_attribute(foils: Foils, rng: random.Random, image: Any, told: Telling) -> Drawn | None:
    stated = choose(rng, told.stated)
    if stated is None:
        return None
    kind, first = stated
    second = choose(rng, [name for also, name in told.stated if also == kind and name != first])
    if second is None:
        return None
    objects = list(foils.objects(image))
    one, two = (foils.index(image, name) for name in (first, second))
    values = [getattr(objects[at], foils.fields[kind]) for at in (two, one)]
    for at, value in zip((one, two), values, strict=True):
        objects[at] = foils.with_value(rng, objects[at], kind, value)
    other = foils.with_objects(image, objects)
    words = foils.retold(told, image, other)
    # Where one of the two values is stated more often than the other, the captions are not of the same words.
    if not foils.belongs(other) or sorted(words or ()) != sorted(told.words):
        return None
    return foils.pair(told, image, other, words)


def _add_object(foils: Foils, rng: random.Random, image: Any, told: Telling) -> Drawn | None:
    mention, added = choose(rng, told.room()), foils.stranger(rng, image)
    if mention is None or added is None:
        return None
    joint = (",", "and")[below(rng, 2)]
    return foils.single(told, image, (*told.words[: mention.stop], joint, *added, *told.words[mention.stop :]))


def _add_attribute(foils: Foils, rng: random.Random, image: Any, told: Telling) -> Drawn | None:
    lacking = [(m, kind) for m in told.mentions for kind in foils.fields if (kind, m.name) not in told.stated]
    if not lacking:
        return None
    mention, kind = choose(rng, lacking)
    item = foils.objects(image)[foils.index(image, mention.name)]
    wrong = foils.with_value(rng, item, kind, foils.other_value(rng, image, item, kind))
    at = told.place(mention, kind)
    return foils.single(told, image, (*told.words[:at], foils.attribute_word(wrong, kind), *told.words[at:]))


_MAKE: Mapping[str, Maker] = {
    "replace_object": _replace_object,
    "replace_attribute": _replace_attribute,
    "replace_relation": _replace_relation,
    "swap_object": _swap_object,
    "swap_attribute": _swap_attribute,
    "add_object": _add_object,
    "add_attribute": _add_attribute,
}
