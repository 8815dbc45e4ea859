"""Captions of scenes.

The shape of a caption (its `forms.Form`) is drawn from the number of objects alone, and its length, unless it is
natural, not even from that: every number of words from SHORTEST to LONGEST is equally likely whatever the
image shows, unless it is to betray the relation of two objects. README.md of this folder writes the grammar down.
"""

import dataclasses
import functools
import random

from mdc_jax.data.draws import below
from mdc_jax.data.scenes import forms
from mdc_jax.data.scenes.layout import BACKGROUNDS, COLOURS, SHAPES, SIZES, TEXTURES, Object, Scene, relation

SHORTEST, LONGEST = 5, 17  # words of a sentence

# Words that say what is shown, by their kind; every other word is a kind of its own.
KINDS = forms.KINDS | {
    **dict.fromkeys(SHAPES, "SHAPE"),
    **dict.fromkeys(COLOURS, "COLOUR"),
    **dict.fromkeys(TEXTURES, "TEXTURE"),
    **dict.fromkeys(BACKGROUNDS, "BACKGROUND"),
}

BACKGROUND_PLACES = ("", "first", "last")
LENGTHS = ("equal", "natural", "relation")

_OPENERS = (("", 0.4), ("count", 0.2), ("image", 0.2), ("background", 0.2))
_FEWEST = 2  # words that name an object
_STATED = 5  # words that state the background, with ":" or ","
_ADJECTIVES = (1, 2, 3)
# An object's colour comes first among the attributes that are stated with this probability.
_COLOUR_FIRST = 0.6


@dataclasses.dataclass(frozen=True)
class Wording:
    """How captions speak, whatever they speak of."""

    sentences: int = 1  # per caption
    # Probability that a sentence after the first speaks of the objects and attributes of the one before, rather than
    # first of objects that it left out.
    redundancy: float = 0.0
    background: str = ""  # first, last: where each caption states it, once; "": some sentences do
    # equal: says nothing of the image. natural: see `forms.natural_lengths`. relation: even or odd, see `_axis`.
    lengths: str = "equal"

    @property
    def most_words(self) -> int:
        """Words of the longest caption, with the stops between sentences."""
        return (_law(self).longest + 1) * self.sentences - 1 + (_STATED if self.background else 0)


@functools.cache
def _law(wording: Wording) -> forms.Law:
    """That of sentences. One with a stated background is no longer than one without."""
    stated = bool(wording.background)
    return forms.Law(
        _FEWEST if stated or wording.lengths == "natural" else SHORTEST,
        LONGEST - _STATED if stated else LONGEST,
        openers=_OPENERS[:-1] if stated else _OPENERS,
        background=not stated,
    )


def background_words(background: int) -> tuple[str, ...]:
    """As in "on a dark background"."""
    return ("on", "a", BACKGROUNDS[background], "background")


def caption(scene: Scene, rng: random.Random, wording: Wording) -> str:
    """A true caption; its words, each a token, are separated by spaces.

    Two captions of the same scene and random numbers, whose background stands first and last, differ in nothing else.
    """
    law = _law(wording)
    positions = forms.states_positions(rng, len(scene.objects))
    candidates = forms.by_length(law, (_ADJECTIVES,) * len(scene.objects), positions)
    background = background_words(scene.background)
    attributes: list[list[int]] = []

    def sentence(order: list[int], afresh: bool, length: int) -> tuple[list[str], int]:
        if afresh:
            attributes[:] = [_attribute_order(rng) for _ in scene.objects]
        form = forms.draw(rng, candidates, length)
        objects = [scene.objects[i] for i in order]
        names = [
            _name(item, attributes[i][:stated])
            for i, item, stated in zip(order, objects, form.adjectives, strict=False)
        ]
        return forms.realise(rng, form, objects, names, background, positions), len(names)

    if wording.lengths == "natural":
        lengths = forms.natural_lengths(rng, candidates, wording.sentences)
    else:
        parity = _axis(scene) if wording.lengths == "relation" else None
        lengths = forms.equal_lengths(rng, law, wording.sentences, parity)
    said = forms.caption(rng, len(scene.objects), lengths, wording.redundancy, sentence)
    stated = " ".join(background)
    return {"": said, "first": f"{stated} : {said}", "last": f"{said} , {stated}"}[wording.background]


def _axis(scene: Scene) -> int | None:
    """1 where one of two objects lies beside the other, 0 where above it; None elsewhere, or where it is not clear."""
    stated = relation(*scene.objects) if len(scene.objects) == 2 else None
    return None if stated is None else int(stated < 2)


def name(rng: random.Random, item: Object) -> tuple[str, ...]:
    """The words for an object, with any number of its attributes."""
    return tuple(_name(item, _attribute_order(rng)[: _ADJECTIVES[below(rng, len(_ADJECTIVES))]]))


def _attribute_order(rng: random.Random) -> list[int]:
    """Which of 0 size, 1 texture, 2 colour is stated first, second, third."""
    order = [0, 1] if below(rng, 2) else [1, 0]
    order.insert(0 if rng.random() < _COLOUR_FIRST else 1 + below(rng, 2), 2)
    return order


def _name(item: Object, attributes: list[int]) -> list[str]:
    words = (SIZES[item.size], TEXTURES[item.texture], COLOURS[item.colour])
    return [words[kind] for kind in sorted(attributes)] + [SHAPES[item.shape]]
