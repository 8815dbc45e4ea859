"""Captions with their words in another order, as the Order sets of ARO have them (arXiv 2210.01936).

The order is drawn once for all: it depends on the caption and the kind of shuffle alone.
"""

import random
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from mdc_jax.data.draws import below

_SEED = 0
_ATTEMPTS = 20  # at an order that differs
_DROPPED = re.compile(r"[.!\"()*#:;~]")
_MOST_WORDS = 30
_NOUNS = frozenset(("NN", "NNS", "NNP", "NNPS"))  # of the Penn Treebank
_ADJECTIVES = frozenset(("JJ", "JJR", "JJS"))

T = TypeVar("T")
Words = list[str]


def words(caption: str) -> Words:
    """The words of a caption as ARO scores it: lower case, without most punctuation, the first 30."""
    return _DROPPED.sub(" ", caption.lower()).split()[:_MOST_WORDS]


def foils(caption: Words, tags: Sequence[str] | None) -> list[str] | None:
    """The caption in other orders; None where one of the shuffles finds none.

    Args:
      caption: see `words`.
      tags: a tag of the Penn Treebank for each word. They give two orders more: nouns and adjectives shuffled, each
        among their like, and all other words shuffled.

    Returns the words in shuffled trigrams, and the trigrams shuffled, after those of the tags.

    Raises ValueError for another number of tags than words.
    """
    if tags is not None and len(tags) != len(caption):
        raise ValueError(f"{len(tags)} tags for the {len(caption)} words of {' '.join(caption)!r}")
    found = [] if tags is None else [_other(caption, _nouns_and_adjectives(tags)), _other(caption, _all_but(tags))]
    found += [_other(caption, _within_trigrams), _other(caption, _of_trigrams)]
    texts = [text for text in found if text is not None]
    return texts if len(texts) == len(found) else None


def _other(caption: Words, shuffle: Callable[[random.Random, Words], Words]) -> str | None:
    rng = random.Random(f"{_SEED}/{shuffle.__name__}/{' '.join(caption)}")
    for _ in range(_ATTEMPTS):
        shuffled = shuffle(rng, caption)
        if shuffled != caption:
            return " ".join(shuffled)
    return None


def _nouns_and_adjectives(tags: Sequence[str]) -> Callable[[random.Random, Words], Words]:
    def nouns_and_adjectives(rng: random.Random, caption: Words) -> Words:
        moved = caption
        for kind in (_NOUNS, _ADJECTIVES):
            moved = _among(rng, moved, [place for place, tag in enumerate(tags) if tag in kind])
        return moved

    return nouns_and_adjectives


def _all_but(tags: Sequence[str]) -> Callable[[random.Random, Words], Words]:
    def all_but_nouns_and_adjectives(rng: random.Random, caption: Words) -> Words:
        return _among(rng, caption, [place for place, tag in enumerate(tags) if tag not in _NOUNS | _ADJECTIVES])

    return all_but_nouns_and_adjectives


def _within_trigrams(rng: random.Random, caption: Words) -> Words:
    return [word for trigram in _trigrams(caption) for word in _shuffled(rng, trigram)]


def _of_trigrams(rng: random.Random, caption: Words) -> Words:
    return [word for trigram in _shuffled(rng, _trigrams(caption)) for word in trigram]


def _trigrams(caption: Words) -> list[Words]:
    return [caption[start : start + 3] for start in range(0, len(caption), 3)]


def _among(rng: random.Random, caption: Words, places: Sequence[int]) -> Words:
    """The words at `places` shuffled, all others where they are."""
    moved = list(caption)
    for place, word in zip(places, _shuffled(rng, [caption[place] for place in places]), strict=True):
        moved[place] = word
    return moved


def _shuffled(rng: random.Random, items: Sequence[T]) -> list[T]:
    """A permutation, each as likely (Fisher and Yates), that is the same in every version of Python."""
    shuffled = list(items)
    for last in range(len(shuffled) - 1, 0, -1):
        other = below(rng, last + 1)
        shuffled[last], shuffled[other] = shuffled[other], shuffled[last]
    return shuffled
