"""Foils of collages; README.md of this folder is the definition."""

import dataclasses
import random
from collections.abc import Mapping, Sequence

from mdc_jax.data.collage import grammar, layout, parse
from mdc_jax.data.collage.layout import TITLE_LENGTHS, Collage, Item, Shelf
from mdc_jax.data.draws import below
from mdc_jax.data.foils import Foils
from mdc_jax.data.scenes.layout import SIZES
from mdc_jax.data.scenes.parse import Parse

_ATTEMPTS = 100  # to draw a title that a collage does not have


class CollageFoils(Foils[Collage]):
    """Foils of the cut-outs of a shelf; `titles` are all that the parser knows, with a number for each."""

    object_kind = "object"
    fields: Mapping[str, str] = {"size": "size"}

    def __init__(self, shelf: Shelf, titles: Mapping[str, int], *, layout: str, sentences: int) -> None:
        self._shelf, self._titles, self._sentences = shelf, titles, sentences
        self.layout = layout
        self.most_words = grammar.LONGEST * sentences + sentences - 1

    def compose(self, rng: random.Random) -> Collage:
        return layout.compose(rng, self._shelf, self.layout)

    def caption(self, rng: random.Random, image: Collage) -> str:
        return grammar.caption(image, rng, self._sentences)

    def parse(self, caption: str) -> Parse:
        return parse.parse(caption, self._sentences, self._titles)

    def right(self, parsed: Parse, image: Collage) -> bool:
        return parse.judge(parsed, image, self._titles).right

    def objects(self, image: Collage) -> tuple[Item, ...]:
        return image.items

    def with_objects(self, image: Collage, objects: Sequence[Item]) -> Collage:
        return dataclasses.replace(image, items=tuple(objects))

    def name(self, item: Item) -> int:
        return self._titles[item.title]

    def name_words(self, item: Item) -> tuple[str, ...]:
        return tuple(item.title.split())

    def attribute_word(self, item: Item, kind: str) -> str:
        return SIZES[item.size]

    def renamed(self, rng: random.Random, image: Collage, item: Item) -> Item | None:
        thing = self._another(rng, image, item.title_length)
        if thing is None:
            return None
        title, kind, cutout = thing
        return dataclasses.replace(item, title=title, kind=kind, cutout=cutout)

    def other_value(self, rng: random.Random, image: Collage, item: Item, kind: str) -> int:
        return 1 - item.size

    def stranger(self, rng: random.Random, image: Collage) -> tuple[str, ...] | None:
        thing = self._another(rng, image, TITLE_LENGTHS[below(rng, len(TITLE_LENGTHS))])
        if thing is None:
            return None
        size = (SIZES[below(rng, 2)],) if below(rng, 2) else ()
        return (*size, *thing[0].split())

    def _another(self, rng: random.Random, image: Collage, length: int) -> tuple[str, int, int] | None:
        """A thing from the shelf whose title has that many words and is not in the collage."""
        present = {item.title for item in image.items}
        drawn = (self._shelf.draw(rng, length) for _ in range(_ATTEMPTS))
        return next((thing for thing in drawn if thing[0] not in present), None)
