"""How much of a probe label the captions say outright."""

import collections
from collections.abc import Mapping, Sequence

from mdc_jax.data.prepare.collection import Picture, label
from mdc_jax.data.sources.base import Family
from mdc_jax.data.texts import words

Share = dict[str, int]
_FILLERS = frozenset(("and", "of", "the", "or"))


def label_words(splits: Mapping[str, Sequence[Picture]], families: Mapping[str, Family]) -> dict[str, dict[str, Share]]:
    """By family and split: the captions of pictures with a label, and those that hold a word of the label's name.

    Number does not matter: "an animal" holds a word of "animals".
    """
    counts: dict[str, dict[str, Share]] = {}
    for family, meta in families.items():
        own = [_stems(name) - _FILLERS for name in meta.names]
        for split, pictures in splits.items():
            found: collections.Counter[str] = collections.Counter(captions=0, with_own_word=0)
            for picture in pictures:
                number = label(picture, family, meta.names)
                for caption in picture.captions if number >= 0 else ():
                    found["captions"] += 1
                    found["with_own_word"] += bool(own[number] & _stems(caption))
            if found["captions"]:
                counts.setdefault(family, {})[split] = dict(found)
    return counts


def _stems(text: str) -> set[str]:
    return {_stem(word) for word in words(text).split()}


def _stem(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word
