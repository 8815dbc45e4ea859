"""Captions of scenes.

The shape of a caption (its `Form`) is drawn from the number of objects alone, and its length not
even from that: every number of words from SHORTEST to LONGEST is equally likely whatever the
image shows. README.md of this folder writes the grammar down.
"""

import bisect
import functools
import itertools
import random
from collections.abc import Iterator
from typing import NamedTuple

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
    below,
    relation,
    sample,
)

SHORTEST, LONGEST = 5, 17  # words of a sentence
STOP = "."  # between sentences
IMAGE = ("an", "image", ":")
SEPARATORS = ((",",), ("and",))
NO_RELATION = ("along", "with")  # as long as a relation

# Words that say what is shown, by their kind; every other word is a kind of its own.
KINDS = {
    **dict.fromkeys(SHAPES, "SHAPE"),
    **dict.fromkeys(COLOURS, "COLOUR"),
    **dict.fromkeys(SIZES, "SIZE"),
    **dict.fromkeys(TEXTURES, "TEXTURE"),
    **dict.fromkeys(BACKGROUNDS, "BACKGROUND"),
    **dict.fromkeys(COUNTS, "COUNT"),
    **dict.fromkeys((*ROWS, *COLUMNS, *(phrase[0] for phrase in RELATIONS)), "WHERE"),
    "than": "of",  # as in "higher than", "left of"
}


def count_words(number: int) -> tuple[str, ...]:
    """As in "three in all"."""
    return (COUNTS[number - 1], "in", "all")


def background_words(background: int) -> tuple[str, ...]:
    """As in "on a dark background"."""
    return ("on", "a", BACKGROUNDS[background], "background")


def position_words(row: int, column: int) -> tuple[str, ...]:
    """As in "at the top left"."""
    return ("at", "the", ROWS[row], COLUMNS[column])


class Form(NamedTuple):
    """What a sentence says, apart from which objects and attributes."""

    opener: str  # "", "count", "image" or "background"
    adjectives: tuple[int, ...]  # of each named object, 1 to 3
    placed: tuple[bool, ...]  # which of them have a position
    wide: tuple[bool, ...]  # between two objects: a relation (or NO_RELATION) rather than a separator
    background: bool  # whether a clause at the end says so
    count: bool

    @property
    def length(self) -> int:
        """Number of words."""
        opener = {"": 0, "count": 4, "image": 3, "background": 5}[self.opener]
        objects = sum(self.adjectives) + len(self.adjectives) + 4 * sum(self.placed)
        return opener + objects + len(self.wide) + sum(self.wide) + 5 * self.background + 4 * self.count


_OPENERS = {"": 0.4, "count": 0.2, "image": 0.2, "background": 0.2}
_NAMED = {1: (1.0,), 2: (0.3, 0.7), 3: (0.15, 0.35, 0.5)}  # how many of 1, 2, 3 objects are named
_POSITIONS = 0.4  # captions of several objects that may state positions; the others may state relations
_PLACED = 0.4
_WIDE = {True: 0.2, False: 0.9}  # by whether positions may be stated
_CLAUSE = 0.15
# An object's colour comes first among the attributes that are stated with this probability.
_COLOUR_FIRST = 0.6


@functools.cache
def forms(number: int, positions: bool) -> dict[int, tuple[list[Form], list[float]]]:
    """By length: the forms for a scene of `number` objects, and their cumulative weights.

    Captions state positions or relations, never both: each gives the other away.
    """
    by_length: dict[int, tuple[list[Form], list[float]]] = {n: ([], []) for n in range(SHORTEST, LONGEST + 1)}
    for form in _every_form(number, positions):
        if form.length in by_length:
            same_length, cumulative = by_length[form.length]
            same_length.append(form)
            cumulative.append(_weight(form, number, positions) + (cumulative[-1] if cumulative else 0.0))
    return by_length


def _every_form(number: int, positions: bool) -> Iterator[Form]:
    yes_or_no = (False, True)
    for named in range(1, number + 1):
        for form in itertools.starmap(
            Form,
            itertools.product(
                _OPENERS,
                itertools.product((1, 2, 3), repeat=named),
                itertools.product(yes_or_no if positions else (False,), repeat=named),
                itertools.product(yes_or_no, repeat=named - 1),
                yes_or_no,
                yes_or_no,
            ),
        ):
            said_twice = (form.background and form.opener == "background") or (form.count and form.opener == "count")
            if not said_twice:
                yield form


def _weight(form: Form, number: int, positions: bool) -> float:
    """How likely the form is among those of its length, up to a factor."""
    named = len(form.adjectives)
    weight = _OPENERS[form.opener] * _NAMED[number][named - 1] * 3.0**-named
    for chance, choices in (
        (_PLACED if positions else 0.0, form.placed),
        (_WIDE[positions], form.wide),
        (_CLAUSE, (form.background, form.count)),
    ):
        for yes in choices:
            weight *= chance if yes else 1 - chance
    return weight


def caption(scene: Scene, rng: random.Random, sentences: int = 1, redundancy: float = 0.0) -> str:
    """A true caption; its words, each a token, are separated by spaces.

    Args:
        sentences: with several, all have about the same number of words, and the number of words
            of them together is uniform.
        redundancy: probability that a sentence after the first speaks of the objects and
            attributes of the one before, rather than first of objects that it left out.
    """
    number = len(scene.objects)
    positions = number == 1 or rng.random() < _POSITIONS
    words_left = SHORTEST * sentences + below(rng, (LONGEST - SHORTEST) * sentences + 1)
    order = _shuffled(rng, list(range(number)))
    attributes = [_attribute_order(rng) for _ in scene.objects]
    parts: list[str] = []
    named = 0
    for sentences_left in range(sentences, 0, -1):
        if parts:
            parts.append(STOP)
            if rng.random() >= redundancy:
                order = _shuffled(rng, order[named:]) + _shuffled(rng, order[:named])
                attributes = [_attribute_order(rng) for _ in scene.objects]
        length = words_left // sentences_left
        words_left -= length
        candidates, weights = forms(number, positions)[length]
        form = candidates[bisect.bisect_left(weights, weights[-1] * rng.random())]
        named = len(form.adjectives)
        parts += _realise(
            form, scene, [scene.objects[i] for i in order], [attributes[i] for i in order], positions, rng
        )
    return " ".join(parts)


def _shuffled(rng: random.Random, items: list[int]) -> list[int]:
    return [items[i] for i in sample(rng, len(items), len(items))]


def _attribute_order(rng: random.Random) -> list[int]:
    """Which of 0 size, 1 texture, 2 colour is stated first, second, third."""
    order = [0, 1] if below(rng, 2) else [1, 0]
    order.insert(0 if rng.random() < _COLOUR_FIRST else 1 + below(rng, 2), 2)
    return order


def _realise(
    form: Form, scene: Scene, objects: list[Object], attributes: list[list[int]], positions: bool, rng: random.Random
) -> list[str]:
    words: list[str] = []
    if form.opener == "count":
        words += (*count_words(len(scene.objects)), ":")
    elif form.opener == "image":
        words += IMAGE
    elif form.opener == "background":
        words += (*background_words(scene.background), ":")
    for i, adjectives in enumerate(form.adjectives):
        item = objects[i]
        if i and form.wide[i - 1]:
            stated = None if positions else relation(objects[i - 1], item)
            words += NO_RELATION if stated is None else RELATIONS[stated]
        elif i:
            words += SEPARATORS[below(rng, 2)]
        names = (SIZES[item.size], TEXTURES[item.texture], COLOURS[item.colour])
        words += [names[kind] for kind in sorted(attributes[i][:adjectives])]
        words.append(SHAPES[item.shape])
        if form.placed[i]:
            words += position_words(item.row, item.column)
    if form.background:
        words += (",", *background_words(scene.background))
    if form.count:
        words += (",", *count_words(len(scene.objects)))
    return words
