"""A caption that was parsed, and how to say the same of other objects. Scenes and collages share it.

A name is what a parser calls an object: the index of a shape, the number of a title.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping
from typing import NamedTuple

from mdc_jax.data.scenes.layout import COLUMNS, COUNTS, RELATIONS, ROWS, Placed, relation
from mdc_jax.data.scenes.parse import Parse, Statement


class Mention(NamedTuple):
    """Where a caption names an object: words [start, end) with its attributes, [start, stop) with its position."""

    name: int
    sentence: int
    start: int
    end: int
    stop: int
    attributes: tuple[Statement, ...]


@dataclasses.dataclass(frozen=True)
class Telling:
    """A true caption of one to three objects.

    `object_kind` is the kind of the claims that name an object; `attribute_kinds` are those on its attributes, in the
    order in which words state them, of which `attribute_word(object, kind)` is the first one.
    """

    words: tuple[str, ...]
    parsed: Parse
    object_kind: str
    attribute_kinds: tuple[str, ...]
    name_words: Callable[[Placed], tuple[str, ...]]
    attribute_word: Callable[[Placed, str], str]

    @functools.cached_property
    def mentions(self) -> tuple[Mention, ...]:
        """In the order of the words."""
        sentences = [number for number, named in enumerate(self.parsed.sentences) for _ in named]
        found = []
        for at, statement in enumerate(self.parsed.statements):
            if statement.kind != self.object_kind:
                continue
            rest = self.parsed.statements[at + 1 :]
            own = tuple(itertools.takewhile(lambda s: s.kind in self.attribute_kinds, rest))
            placed = [s.end for s in rest[len(own) : len(own) + 1] if s.kind == "position"]
            start = min(s.start for s in (statement, *own))
            stop = (*placed, statement.end)[0]
            found.append(Mention(statement.values[0], sentences[len(found)], start, statement.end, stop, own))
        return tuple(found)

    @property
    def names(self) -> tuple[int, ...]:
        """The objects that are named."""
        return tuple(dict.fromkeys(mention.name for mention in self.mentions))

    @property
    def stated(self) -> tuple[tuple[str, int], ...]:
        """The attributes that are stated: kind and object."""
        found = (s for s in self.parsed.statements if s.kind in self.attribute_kinds)
        return tuple(dict.fromkeys((s.kind, s.values[0]) for s in found))

    @property
    def related(self) -> tuple[frozenset[int], ...]:
        """The pairs of objects whose relation is stated."""
        return tuple(dict.fromkeys(frozenset(s.values[1:]) for s in self.parsed.statements if s.kind == "relation"))

    def says(self, kind: str) -> bool:
        """Whether there is a claim of this kind."""
        return any(s.kind == kind for s in self.parsed.statements)

    def retold(self, objects: Mapping[int, Placed]) -> tuple[str, ...] | None:
        """The words that claim of other objects, by the names of those in their place, what these claim.

        None where a relation would have to be stated that is not clear.
        """
        words = list(self.words)
        for statement in self.parsed.statements:
            kind, start, end, values = statement
            if kind == self.object_kind:
                words[start:end] = self.name_words(objects[values[0]])
            elif kind in self.attribute_kinds:
                words[start] = self.attribute_word(objects[values[0]], kind)
            elif kind == "position":
                item = objects[values[0]]
                words[start:end] = ROWS[item.row], COLUMNS[item.column]
            elif kind == "relation":
                stated = relation(*(objects[name] for name in values[1:]))
                if stated is None:
                    return None
                words[start:end] = RELATIONS[stated]
        return tuple(words)

    def exchanged(self, first: int, second: int) -> tuple[str, ...] | None:
        """The words with two names in each other's place, attributes included; None if one occurs more often."""
        places = [[m for m in self.mentions if m.name == name] for name in (first, second)]
        if len(places[0]) != len(places[1]):
            return None
        other = {a: b for one, two in zip(*places, strict=True) for a, b in ((one, two), (two, one))}
        words: list[str] = []
        at = 0
        for mention in self.mentions:
            source = other.get(mention, mention)
            words += (*self.words[at : mention.start], *self.words[source.start : source.end])
            at = mention.end
        return (*words, *self.words[at:])

    def room(self) -> tuple[Mention, ...]:
        """The mentions behind which another object can be named, so that no more are than there may be."""
        counts = [s.values[0] for s in self.parsed.statements if s.kind == "count"]
        if len(self.names) >= min([len(COUNTS), *counts]):
            return ()
        last = {mention.sentence: mention for mention in self.mentions}
        return tuple(m for m in last.values() if len(self.parsed.sentences[m.sentence]) < len(COUNTS))

    def place(self, mention: Mention, kind: str) -> int:
        """Where an attribute that a mention lacks would be stated."""
        later = self.attribute_kinds[self.attribute_kinds.index(kind) + 1 :]
        name = mention.end - len(self.name_of(mention))
        return min([name, *(s.start for s in mention.attributes if s.kind in later)])

    def name_of(self, mention: Mention) -> tuple[str, ...]:
        """The words of a mention beside its attributes."""
        return self.words[mention.start + len(mention.attributes) : mention.end]
