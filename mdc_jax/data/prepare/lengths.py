"""How long captions are, for batches of similar lengths: in tokens of a given model, else in words."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from mdc_jax.data.tokenizer import Tokenizer

CAPTION = "caption"  # the only column of data that has one
MAX_LENGTH = 2**16 - 1


class Texts(Protocol):
    """The part of an example that is measured."""

    captions: Sequence[str]
    columns: Mapping[str, Sequence[str]]


@dataclasses.dataclass(frozen=True)
class Lengths:
    """Measures every column of an example by its longest text, since any of them may be drawn."""

    tokenizer: str = ""  # a model file; "": words are counted
    columns: tuple[str, ...] = (CAPTION,)  # the default one first

    def __call__(self, example: Texts) -> list[int]:
        """A number per column, at most MAX_LENGTH; tokens include EOS. A column without texts has 0."""
        return [
            max(map(self._measure, example.columns.get(column, example.captions if index == 0 else ())), default=0)
            for index, column in enumerate(self.columns)
        ]

    def describe(self) -> dict[str, Any]:
        """What the manifest says of the numbers; raises FileNotFoundError or ValueError for a wrong model."""
        about = {"unit": "tokens" if self.tokenizer else "words", "columns": list(self.columns)}
        return about | ({"tokenizer": _load(self.tokenizer).hash} if self.tokenizer else {})

    def _measure(self, text: str) -> int:
        if self.tokenizer:
            return len(_load(self.tokenizer).encode(text, MAX_LENGTH))
        return min(len(text.split()), MAX_LENGTH)


WORDS = Lengths()


@functools.lru_cache(maxsize=1)
def _load(path: str) -> Tokenizer:
    return Tokenizer.load(path)
