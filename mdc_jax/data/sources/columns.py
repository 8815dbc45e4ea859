"""Captions from several columns of text: "columns:re_caption=0.8,org_caption=0.2:SPEC".

Training draws a column at these probabilities, afresh for every record and epoch, and then one of its captions.
Evaluation takes the column named first. "caption" is the source's own captions. Where a record lacks the column that
is drawn, its row is masked with the reason "no caption".
"""

import contextlib
import dataclasses
import re
from collections.abc import Mapping

from mdc_jax.data import plan
from mdc_jax.data.sources import open_source
from mdc_jax.data.sources.base import BadRecord, Record, Source
from mdc_jax.data.sources.derived import Derived
from mdc_jax.data.texts import has_words
from mdc_jax.data.tokenizer import Tokenizer

OWN = "caption"
_LOOK_AT = 16  # records that show which columns a source has


class Columns(Derived):
    """See the module; it offers no bare `captions`, which would lack their weights."""

    offers = ("check", "claims")

    def __init__(self, source: Source, probabilities: Mapping[str, float]) -> None:
        total = sum(probabilities.values())
        self._probabilities = {name: probability / total for name, probability in probabilities.items()}
        named = ",".join(f"{name}={probability:g}" for name, probability in self._probabilities.items())
        super().__init__(f"columns:{named}:{source.spec}", [source], "columns", named)
        self._source = source
        if hasattr(source, "length"):
            self.length = self._longest

    def __len__(self) -> int:
        return len(self._source)

    def locate(self, index: int) -> tuple[Source, int]:
        return self._source, index

    def __getitem__(self, index: int) -> Record:
        """The record with the captions of the columns, in their order; "" stands for a column that it lacks."""
        record = super().__getitem__(index)
        captions, weights = [], []
        for name, probability in self._probabilities.items():
            texts = _texts(record, name) or ("",)
            captions += texts
            weights += [probability / len(texts)] * len(texts)
        return dataclasses.replace(record, captions=tuple(captions), weights=tuple(weights))

    def _longest(self, index: int, tokenizer: Tokenizer) -> int:
        """Tokens of the longest caption that may be drawn."""
        columns = (() if name == OWN else (name,) for name in self._probabilities)
        return max(self._source.length(index, tokenizer, *column) for column in columns)


def open(rest: str) -> Columns:
    """Opens "NAME=PROBABILITY,NAME=PROBABILITY...:SPEC"; probabilities are above 0 and need not sum to 1.

    Raises:
      ValueError: the columns are not written like this, none of the first records has one, or SPEC is a mixture.
    """
    named, _, spec = rest.partition(":")
    probabilities: dict[str, float] = {}
    for item in named.split(","):
        match = re.fullmatch(r"([^=]+)=((?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e-?[0-9]+)?)", item)
        if match and match[1] in probabilities:
            raise ValueError(f"column {match[1]} is given twice")
        if not match or not float(match[2]) or not spec:
            raise ValueError(
                f"{item!r} is no column with a probability above 0; "
                "columns are written columns:re_caption=0.8,org_caption=0.2:SPEC"
            )
        probabilities[match[1]] = float(match[2])
    source = open_source(spec)
    if hasattr(source, "parts"):
        raise ValueError("choose columns within the parts of a mixture: mix:0.7*columns:...:SPEC+0.3*SPEC")
    _check(source, probabilities)
    return Columns(source, probabilities)


def _texts(record: Record, column: str) -> tuple[str, ...]:
    texts = record.captions if column == OWN else record.columns.get(column, ())
    return tuple(filter(has_words, texts))


def _check(source: Source, names: Mapping[str, float]) -> None:
    """Raises ValueError for a column that none of a few records knows: it is mistyped. One without a text is rare."""
    found = {OWN}
    for index in plan.plan_of(source, seed=0, shuffle=False).spread(min(_LOOK_AT, len(source))):
        with contextlib.suppress(BadRecord):
            found |= source[index].columns.keys()
        if found >= names.keys():
            return
    missing = sorted(names.keys() - found)
    raise ValueError(f"no column {', '.join(missing)} in {source.spec}; it has {', '.join(sorted(found))}")
