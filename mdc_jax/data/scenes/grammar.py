"""Captions of scenes.

The shape of a caption (its `forms.Form`) is drawn from the number of objects alone, and its length not
even from that: every number of words from SHORTEST to LONGEST is equally likely whatever the
image shows. README.md of this folder writes the grammar down.
"""

import random

from mdc_jax.data.scenes import forms
from mdc_jax.data.scenes.layout import BACKGROUNDS, COLOURS, SHAPES, SIZES, TEXTURES, Object, Scene, below

SHORTEST, LONGEST = 5, 17  # words of a sentence

# Words that say what is shown, by their kind; every other word is a kind of its own.
KINDS = forms.KINDS | {
    **dict.fromkeys(SHAPES, "SHAPE"),
    **dict.fromkeys(COLOURS, "COLOUR"),
    **dict.fromkeys(TEXTURES, "TEXTURE"),
    **dict.fromkeys(BACKGROUNDS, "BACKGROUND"),
}

_LAW = forms.Law(
    SHORTEST,
    LONGEST,
    openers=(("", 0.4), ("count", 0.2), ("image", 0.2), ("background", 0.2)),
    background=True,
)
_ADJECTIVES = (1, 2, 3)
# An object's colour comes first among the attributes that are stated with this probability.
_COLOUR_FIRST = 0.6


def background_words(background: int) -> tuple[str, ...]:
    """As in "on a dark background"."""
    return ("on", "a", BACKGROUNDS[background], "background")


def caption(scene: Scene, rng: random.Random, sentences: int = 1, redundancy: float = 0.0) -> str:
    """A true caption; its words, each a token, are separated by spaces.

    Args:
        sentences: with several, all have about the same number of words, and the number of words
            of them together is uniform.
        redundancy: probability that a sentence after the first speaks of the objects and
            attributes of the one before, rather than first of objects that it left out.
    """
    positions = forms.states_positions(rng, len(scene.objects))
    candidates = forms.by_length(_LAW, (_ADJECTIVES,) * len(scene.objects), positions)
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
        background = background_words(scene.background)
        return forms.realise(rng, form, objects, names, background, positions), len(names)

    return forms.caption(rng, _LAW, len(scene.objects), sentences, redundancy, sentence)


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
