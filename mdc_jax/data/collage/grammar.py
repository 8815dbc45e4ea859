"""Captions of collages: the sentences of scenes, in which things are called by the titles of their pictures.

The number of words of a title is drawn before the title (see `layout`), and the form of a sentence given those numbers
and its own length, which is uniform whatever they are. README.md of this folder writes the grammar down.
"""

import random

from mdc_jax.data.collage.layout import TITLE_LENGTHS, Collage
from mdc_jax.data.scenes import forms
from mdc_jax.data.scenes.layout import COLUMNS, COUNTS, RELATIONS, ROWS, SIZES
from mdc_jax.data.texts import words

SHORTEST, LONGEST = 5, 13  # words of a sentence

_LAW = forms.Law(SHORTEST, LONGEST, openers=(("", 0.5), ("count", 0.25), ("image", 0.25)), background=False)
_ARTICLES = frozenset(("a", "an", "the"))
# Words of the grammar, which no title may hold: so it is plain where a title ends.
RESERVED = frozenset(
    (
        *SIZES,
        *COUNTS,
        *ROWS,
        *COLUMNS,
        *forms.IMAGE,
        *forms.NO_RELATION,
        forms.STOP,
        *(word for separator in forms.SEPARATORS for word in separator),
        *(word for phrase in RELATIONS for word in phrase),
        *("at", "the", "in", "all", "on"),
    )
)


def as_title(text: str) -> str:
    """A text as the title of a thing, lower case and without article and punctuation; "" where it cannot be one."""
    title = words(text).split()
    if title and title[0] in _ARTICLES:
        title = title[1:]
    fits = len(title) in TITLE_LENGTHS and all(word.isascii() and word.isalpha() for word in title)
    return " ".join(title) if fits and not RESERVED.intersection(title) else ""


def caption(collage: Collage, rng: random.Random, sentences: int) -> str:
    """A true caption; its words are separated by spaces."""
    items = collage.items
    positions = forms.states_positions(rng, len(items))

    def sentence(order: list[int], _: bool, length: int) -> tuple[list[str], int]:
        ordered = [items[i] for i in order]
        # Words beside the last one of a name: of the title, and the size or not.
        adjectives = tuple((item.title_length - 1, item.title_length) for item in ordered)
        form = forms.draw(rng, forms.by_length(_LAW, adjectives, positions), length)
        names = [
            [SIZES[item.size]] * (stated == item.title_length) + item.title.split()
            for item, stated in zip(ordered, form.adjectives, strict=False)
        ]
        return forms.realise(rng, form, ordered, names, (), positions), len(names)

    return forms.caption(rng, len(items), forms.equal_lengths(rng, _LAW, sentences), 0.0, sentence)
