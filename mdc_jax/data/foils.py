"""What foils of images whose captions can be parsed are made with; `foil_kinds.py` makes them.

An image is what it holds, a W: a scene or a collage.
"""

import abc
import dataclasses
import random
from collections.abc import Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from mdc_jax.data.scenes.layout import Placed, draw_radius, jittered
from mdc_jax.data.scenes.parse import Parse
from mdc_jax.data.scenes.telling import Telling

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
