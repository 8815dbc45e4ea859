"""The form of a sentence: what it says, apart from which objects and attributes. Scenes and collages share it.

A form is drawn given its length, so that a caption's length says nothing of the image. README.md of this folder
writes the grammar down.
"""

import bisect
import functools
import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from mdc_jax.data.draws import below, sample
from mdc_jax.data.scenes.layout import COLUMNS, COUNTS, RELATIONS, ROWS, SIZES, Placed, relation

STOP = "."  # between sentences
IMAGE = ("an", "image", ":")
SEPARATORS = ((",",), ("and",))
NO_RELATION = ("along", "with")  # as long as a relation
# Words that say what is shown, by their kind; all others that a grammar has are kinds of their own.
KINDS = {
    **dict.fromkeys(SIZES, "SIZE"),
    **dict.fromkeys(COUNTS, "COUNT"),
    **dict.fromkeys((*ROWS, *COLUMNS, *(phrase[0] for phrase in RELATIONS)), "WHERE"),
    "than": "of",  # as in "higher than", "left of"
}

_NAMED = {1: (1.0,), 2: (0.3, 0.7), 3: (0.15, 0.35, 0.5)}  # how many of 1, 2, 3 objects are named
_POSITIONS = 0.4  # captions of several objects that may state positions; the others may state relations
_PLACED = 0.4
_WIDE = {True: 0.2, False: 0.9}  # by whether positions may be stated
_CLAUSE = 0.15


class Form(NamedTuple):
    """What a sentence says, apart from which objects and attributes."""

    opener: str  # "", "count", "image" or "background"
    adjectives: tuple[int, ...]  # words of each named object beside its last
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


class Law(NamedTuple):
    """What decides how likely a form is, beside the objects."""

    shortest: int  # words of a sentence
    longest: int
    openers: tuple[tuple[str, float], ...]  # with their probabilities, before the length is given
    background: bool  # whether a clause may state it


# By length: forms, and their cumulative weights.
Forms = dict[int, tuple[list[Form], list[float]]]


def count_words(number: int) -> tuple[str, ...]:
    """As in "three in all"."""
    return (COUNTS[number - 1], "in", "all")


def position_words(row: int, column: int) -> tuple[str, ...]:
    """As in "at the top left"."""
    return ("at", "the", ROWS[row], COLUMNS[column])


def states_positions(rng: random.Random, number: int) -> bool:
    """Whether a caption of `number` objects may state positions; if not, it may state relations.

    Never both: each gives the other away.
    """
    return number == 1 or rng.random() < _POSITIONS


@functools.cache
def by_length(law: Law, adjectives: tuple[tuple[int, ...], ...], positions: bool) -> Forms:
    """The forms that name the first objects, one to all.

    Args:
        law: which forms there are.
        adjectives: of every object, the numbers of words beside its last that its name may have, equally likely.
        positions: whether positions may be stated, rather than relations.
    """
    found: Forms = {n: ([], []) for n in range(law.shortest, law.longest + 1)}
    for form in _every_form(law, adjectives, positions):
        if form.length in found:
            same_length, cumulative = found[form.length]
            same_length.append(form)
            cumulative.append(_weight(law, form, adjectives, positions) + (cumulative[-1] if cumulative else 0.0))
    return found


def _every_form(law: Law, adjectives: tuple[tuple[int, ...], ...], positions: bool) -> Iterator[Form]:
    yes_or_no = (False, True)
    for named in range(1, len(adjectives) + 1):
        for form in itertools.starmap(
            Form,
            itertools.product(
                [opener for opener, _ in law.openers],
                itertools.product(*adjectives[:named]),
                itertools.product(yes_or_no if positions else (False,), repeat=named),
                itertools.product(yes_or_no, repeat=named - 1),
                yes_or_no if law.background else (False,),
                yes_or_no,
            ),
        ):
            said_twice = (form.background and form.opener == "background") or (form.count and form.opener == "count")
            if not said_twice:
                yield form


def _weight(law: Law, form: Form, adjectives: tuple[tuple[int, ...], ...], positions: bool) -> float:
    """How likely the form is among those of its length, up to a factor."""
    named = len(form.adjectives)
    weight = dict(law.openers)[form.opener] * _NAMED[len(adjectives)][named - 1]
    weight /= math.prod(map(len, adjectives[:named]))
    for chance, choices in (
        (_PLACED if positions else 0.0, form.placed),
        (_WIDE[positions], form.wide),
        (_CLAUSE, (form.background, form.count)),
    ):
        for yes in choices:
            weight *= chance if yes else 1 - chance
    return weight


def draw(rng: random.Random, forms: Forms, length: int) -> Form:
    """A form of this length."""
    candidates, weights = forms[length]
    return candidates[bisect.bisect_left(weights, weights[-1] * rng.random())]


def equal_lengths(rng: random.Random, law: Law, sentences: int, parity: int | None = None) -> list[int]:
    """Words of each sentence, of all about the same number; that of them together is uniform: of a `parity` (1 odd, 0
    even) among numbers of this kind."""
    numbers = range(law.shortest * sentences, law.longest * sentences + 1)
    if parity is not None:
        numbers = numbers[(parity - numbers[0]) % 2 :: 2]
    words_left = numbers[below(rng, len(numbers))]
    return [(words_left + i) // sentences for i in range(sentences)]


def natural_lengths(rng: random.Random, forms: Forms, sentences: int) -> list[int]:
    """Words of each sentence, as often as the forms that have so many: more where there is more to say."""
    weights = itertools.accumulate(cumulative[-1] if cumulative else 0.0 for _, cumulative in forms.values())
    lengths, cumulative = list(forms), list(weights)
    return [lengths[bisect.bisect_left(cumulative, cumulative[-1] * rng.random())] for _ in range(sentences)]


def caption(
    rng: random.Random,
    number: int,
    lengths: Sequence[int],
    redundancy: float,
    sentence: Callable[[list[int], bool, int], tuple[list[str], int]],
) -> str:
    """Sentences about `number` objects, of so many words each.

    Args:
        redundancy: probability that a sentence after the first keeps the order of the one before; else
            objects come first that the one before left out.
        sentence: given the order of the objects, whether that is a new one, and a length, it makes the words
            of a sentence and says how many objects they name.
    """
    order = _shuffled(rng, list(range(number)))
    parts: list[str] = []
    afresh, named = True, 0
    for length in lengths:
        if parts:
            parts.append(STOP)
            afresh = rng.random() >= redundancy
            if afresh:
                order = _shuffled(rng, order[named:]) + _shuffled(rng, order[:named])
        words, named = sentence(order, afresh, length)
        parts += words
    return " ".join(parts)


def realise(
    rng: random.Random,
    form: Form,
    objects: Sequence[Placed],
    names: Sequence[Sequence[str]],
    background: tuple[str, ...],
    positions: bool,
) -> list[str]:
    """The words of a sentence.

    Args:
        objects: all of the image, those first that the form names.
        names: the words for each object that is named.
        background: the words for it.
    """
    words: list[str] = []
    if form.opener == "count":
        words += (*count_words(len(objects)), ":")
    elif form.opener == "image":
        words += IMAGE
    elif form.opener == "background":
        words += (*background, ":")
    for i, name in enumerate(names):
        if i and form.wide[i - 1]:
            stated = None if positions else relation(objects[i - 1], objects[i])
            words += NO_RELATION if stated is None else RELATIONS[stated]
        elif i:
            words += SEPARATORS[below(rng, 2)]
        words += name
        if form.placed[i]:
            words += position_words(objects[i].row, objects[i].column)
    if form.background:
        words += (",", *background)
    if form.count:
        words += (",", *count_words(len(objects)))
    return words


def _shuffled(rng: random.Random, items: list[int]) -> list[int]:
    return [items[i] for i in sample(rng, len(items), len(items))]
