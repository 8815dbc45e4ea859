"""What the built-in sets share: images that are composed, and drawn, when they are asked for.

W is what an image holds: a scene or a collage.
"""

import abc
import collections
import random
from collections.abc import Mapping
from typing import Generic

import numpy as np

from mdc_jax.data.foils import Drawn, W
from mdc_jax.data.scenes.parse import Parse
from mdc_jax.data.sources.base import Family, Foil, Record, Verdict, check_index
from mdc_jax.data.tokenizer import Tokenizer

_CAPTIONS, _FOILS = 1, 2  # streams of random numbers, behind that of the images; a kind of foil keeps its own for ever


class Composed(abc.ABC, Generic[W]):
    """Images of one split, each with a caption that a parser reads: a source with all that is OPTIONAL."""

    spec: str
    fingerprint: str
    families: Mapping[str, Family]
    unsafe: Mapping[str, str]
    all_foil_kinds: tuple[str, ...]  # in their order for ever; `foil_kinds` are those that there are

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def compose(self, index: int) -> W:
        """What image `index` holds, of those that there are."""

    @abc.abstractmethod
    def draw(self, contents: W) -> np.ndarray:
        """Its pixels u8[size, size, 3]."""

    @abc.abstractmethod
    def label(self, contents: W) -> Mapping[str, np.ndarray]:
        """Its labels."""

    @abc.abstractmethod
    def caption(self, contents: W, rng: random.Random) -> str:
        """A true caption."""

    @abc.abstractmethod
    def parse(self, caption: str) -> Parse:
        """What a caption says."""

    @abc.abstractmethod
    def judge(self, parsed: Parse, contents: W) -> Verdict:
        """That, held against an image."""

    @abc.abstractmethod
    def compose_foil(self, kind: str, rng: random.Random) -> Drawn:
        """A foil, not drawn; raises ValueError where the settings leave none of this kind."""

    @abc.abstractmethod
    def stream(self, index: int, purpose: int) -> random.Random:
        """Random numbers of image `index`, independent of those for other purposes."""

    def __getitem__(self, index: int) -> Record:
        contents = self.contents(index)
        return Record(self.draw(contents), self._captions(index, contents), self.label(contents))

    def contents(self, index: int) -> W:
        """What image `index` holds.

        Raises:
            IndexError: outside 0 .. len(self) - 1.
        """
        check_index(self, index)
        return self.compose(index)

    def labels(self, index: int) -> Mapping[str, np.ndarray]:
        """The labels of image `index`, which is not drawn."""
        return self.label(self.contents(index))

    def captions(self, index: int) -> tuple[str, ...]:
        """The captions of image `index`, which is not drawn."""
        return self._captions(index, self.contents(index))

    def length(self, index: int, tokenizer: Tokenizer) -> int:
        """Tokens of the longest caption of image `index`, which is not drawn."""
        return tokenizer.longest(self.captions(index))

    def check(self, index: int, caption: str) -> Verdict:
        """What a caption claims, held against image `index`."""
        return self.judge(self.parse(caption), self.contents(index))

    def claims(self, index: int) -> Mapping[str, int]:
        """How many claims of each kind the image's own caption makes."""
        (caption,) = self.captions(index)
        return collections.Counter(statement.kind for statement in self.parse(caption).statements)

    def foils(self, kind: str, index: int) -> Foil:
        """Foil `index` of a kind, which has as many as there are images; raises as `foil_contents`."""
        contents, captions = self.foil_contents(kind, index)
        return Foil(kind, tuple(map(self.draw, contents)), captions)

    def foil_contents(self, kind: str, index: int) -> Drawn:
        """What the images of foil `index` of a kind hold, which are not drawn.

        Raises:
            IndexError: outside 0 .. len(self) - 1.
            ValueError: the settings, or the cut-outs, leave none of this kind.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"foil {index} of {self.spec!r}, which has {len(self)}")
        return self.compose_foil(kind, self.stream(index, _FOILS + self.all_foil_kinds.index(kind)))

    def _captions(self, index: int, contents: W) -> tuple[str, ...]:
        return (self.caption(contents, self.stream(index, _CAPTIONS)),)
