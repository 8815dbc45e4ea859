"""From a caption back to what it claims, and whether that holds.

The language is that of `grammar`, at any length: what is checked is what a caption says.
"""

from collections.abc import Callable, Container, Sequence
from typing import NamedTuple

from mdc_jax.data.scenes import forms
from mdc_jax.data.scenes.layout import (
    BACKGROUNDS,
    COLOURS,
    COLUMNS,
    COUNTS,
    RELATIONS,
    ROWS,
    SHAPES,
    SIZES,
    TEXTURES,
    Object,
    Scene,
    relation,
)
from mdc_jax.data.sources.base import Claim, Verdict

# The kinds of claims. "shape": there is such a shape; "pair": and it has this colour; "relation":
# the direction is clear and this one.
KINDS = ("count", "background", "shape", "pair", "size", "texture", "position", "relation")

_ADJECTIVES = (("size", SIZES), ("texture", TEXTURES), ("pair", COLOURS))  # in the order in which they are stated


class Statement(NamedTuple):
    """A claim made by words [start, end).

    `values` are indices into the words of its kind; an object stands as the index of its shape.
    """

    kind: str
    start: int
    end: int
    values: tuple[int, ...]


class Parse(NamedTuple):
    """What a caption says; where it is not grammatical, what it says before the first word that does not fit."""

    grammatical: bool
    statements: tuple[Statement, ...]
    sentences: tuple[tuple[int, ...], ...]  # the shapes that each sentence names


def parse(caption: str, sentences: int = 1, background: str = "") -> Parse:
    """Reads a caption of that many sentences; `background` is as in `grammar.Wording`."""
    return Reader(caption.split(), background).parse(sentences)


def judge(parsed: Parse, scene: Scene) -> Verdict:
    """Holds what a caption says against a scene.

    A claim about a shape that the scene does not have is wrong. Objects of a scene differ in
    shape, so a shape that is absent counts as a hallucinated object, and one that a sentence
    names twice as a repeated one.
    """
    by_shape = {item.shape: item for item in scene.objects}
    return verdict(parsed, by_shape, lambda statement: _holds(statement, scene, by_shape))


def verdict(parsed: Parse, present: Container[int], holds: Callable[[Statement], bool]) -> Verdict:
    """What is found in a caption, given the objects that are present and which statements hold."""
    return Verdict(
        grammatical=parsed.grammatical,
        claims=tuple(Claim(s.kind, s.start, s.end, holds(s)) for s in parsed.statements),
        repeated=any(len(set(named)) < len(named) for named in parsed.sentences),
        hallucinated=sum(name not in present for named in parsed.sentences for name in named),
    )


_OF_OBJECT: dict[str, Callable[[Object], tuple[int, ...]]] = {
    "shape": lambda item: (),
    "pair": lambda item: (item.colour,),
    "size": lambda item: (item.size,),
    "texture": lambda item: (item.texture,),
    "position": lambda item: (item.row, item.column),
}


def _holds(statement: Statement, scene: Scene, by_shape: dict[int, Object]) -> bool:
    kind, values = statement.kind, statement.values
    if kind == "count":
        return values == (len(scene.objects),)
    if kind == "background":
        return values == (scene.background,)
    if kind == "relation":
        stated, *shapes = values
        return all(shape in by_shape for shape in shapes) and relation(*(by_shape[s] for s in shapes)) == stated
    shape, *stated = values
    return shape in by_shape and _OF_OBJECT[kind](by_shape[shape]) == tuple(stated)


class Unfit(Exception):
    """A word that the grammar does not allow here."""


class Reader:
    """Recursive descent: each method consumes what it stands for, or raises Unfit."""

    def __init__(self, words: Sequence[str], background: str = ""):
        self.words = words
        self.background = background
        self.at = 0
        self.statements: list[Statement] = []
        self.named: list[list[int]] = []  # by sentence

    def parse(self, sentences: int) -> Parse:
        """Reads that many sentences."""
        grammatical = self._read(sentences)
        return Parse(grammatical, tuple(self.statements), tuple(map(tuple, self.named)))

    def _read(self, sentences: int) -> bool:
        """Whether the words are that many sentences."""
        try:
            if self.background == "first":
                self._background()
                self._expect(":")
            self._sentence()
            for _ in range(sentences - 1):
                self._expect(forms.STOP)
                self._sentence()
            if self.background == "last":
                self._expect(",")
                self._background()
        except Unfit:
            return False
        kinds = {statement.kind for statement in self.statements}
        return self.at == len(self.words) and not {"position", "relation"} <= kinds

    def _sentence(self) -> None:
        self.named.append([])
        opener = self._next()
        if opener == forms.IMAGE[0]:
            self._expect(*forms.IMAGE)
        elif opener == "on" and not self.background:
            self._background()
            self._expect(":")
        elif opener in COUNTS:
            self._count()
            self._expect(":")
        self._object()
        while len(self.named[-1]) < len(COUNTS) and self._another_object():
            pass
        if opener != "on" and not self.background and self._next() == "," and self._next(1) == "on":
            self._expect(",")
            self._background()
        if opener not in COUNTS and self._next() == "," and self._next(1) in COUNTS:
            self._expect(",")
            self._count()

    def _another_object(self) -> bool:
        """What stands between two objects, and the second one; False where no object follows."""
        word = self._next()
        if word in ("and", ","):
            if self._next(1) == "on" or self._next(1) in COUNTS:
                return False
            self._expect(word)
            self._object()
        elif word == forms.NO_RELATION[0]:
            self._expect(*forms.NO_RELATION)
            self._object()
        elif (word, self._next(1)) in RELATIONS:
            start, first = self.at, self.named[-1][-1]
            self.at += 2
            self._object()
            stated = RELATIONS.index((word, self.words[start + 1]))
            self.statements.append(Statement("relation", start, start + 2, (stated, first, self.named[-1][-1])))
        else:
            return False
        return True

    def _object(self) -> None:
        start = self.at
        adjectives = []
        for kind, names in _ADJECTIVES:
            if self._next() in names:
                adjectives.append((kind, self._choose(names)))
        if not adjectives:
            raise Unfit
        shape = self._choose(SHAPES)
        self.named[-1].append(shape)
        end = self.at
        self.statements.append(Statement("shape", end - 1, end, (shape,)))
        for at, (kind, value) in enumerate(adjectives, start):
            self.statements.append(Statement(kind, at, end if kind == "pair" else at + 1, (shape, value)))
        self._position(shape)

    def _position(self, name: int) -> None:
        if self._next() == "at":
            self._expect("at", "the")
            row, column = self._choose(ROWS), self._choose(COLUMNS)
            self.statements.append(Statement("position", self.at - 2, self.at, (name, row, column)))

    def _background(self) -> None:
        self._expect("on", "a")
        background = self._choose(BACKGROUNDS)
        self.statements.append(Statement("background", self.at - 1, self.at, (background,)))
        self._expect("background")

    def _count(self) -> None:
        count = self._choose(COUNTS) + 1
        self.statements.append(Statement("count", self.at - 1, self.at, (count,)))
        self._expect("in", "all")

    def _next(self, ahead: int = 0) -> str:
        return self.words[self.at + ahead] if self.at + ahead < len(self.words) else ""

    def _expect(self, *phrase: str) -> None:
        if tuple(self.words[self.at : self.at + len(phrase)]) != phrase:
            raise Unfit
        self.at += len(phrase)

    def _choose(self, names: tuple[str, ...]) -> int:
        if self._next() not in names:
            raise Unfit
        self.at += 1
        return names.index(self.words[self.at - 1])
