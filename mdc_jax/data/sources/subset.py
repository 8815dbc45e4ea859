"""Some of the records of a source: "subset:N:SPEC" or "subset:A%-B%:SPEC", as in "subset:5M:array_record:DIR:train".

The records stand in one pseudorandom order, and a subset has the first N of it. So it is a fair sample, and a smaller
subset is contained in every larger one of the same source. N is a number, with k or M where that is shorter. A range
has what stands between two shares of that order: "0%-90%" and "90%-100%" are a split of the source.
"""

import re

from mdc_jax.data import plan
from mdc_jax.data.sources import open_source
from mdc_jax.data.sources.base import Source
from mdc_jax.data.sources.derived import Derived

_UNITS = {"": 1, "k": 1_000, "M": 1_000_000}
_NUMBER = re.compile(r"([0-9][0-9_]*)([kM]?)")
_RANGE = re.compile(r"([0-9]{1,2})%-([0-9]{1,3})%")


class Subset(Derived):
    """See the module; `number` as it is written, of records `first` to `first` + `count` of the order."""

    def __init__(self, source: Source, number: str, count: int, first: int = 0) -> None:
        definition = (count, first) if first else (count,)
        super().__init__(f"subset:{number}:{source.spec}", [source], "subset", *definition)
        self._source = source
        self._count, self._first = count, first

    def __len__(self) -> int:
        return self._count

    def locate(self, index: int) -> tuple[Source, int]:
        return self._source, plan.sample(self._first + index, len(self._source))


def count_of(number: str) -> int | None:
    """What "300", "1k" or "5M" says; None where it is no number."""
    match = _NUMBER.fullmatch(number)
    return int(match[1]) * _UNITS[match[2]] if match else None


def open(rest: str) -> Subset:
    """Opens "N:SPEC" or "A%-B%:SPEC"; raises ValueError where that is no part of the source, and for a mixture."""
    number, _, spec = rest.partition(":")
    count, shares = count_of(number), _RANGE.fullmatch(number)
    if (count is None and not shares) or not spec:
        raise ValueError(
            "a subset is written subset:N:SPEC, as in subset:5M:array_record:DIR:train, or subset:90%-100%:SPEC"
        )
    source = open_source(spec)
    if hasattr(source, "parts"):
        raise ValueError("a subset of a mixture would lose its weights; write a mixture of subsets")
    if shares:
        first, end = (len(source) * int(share) // 100 for share in shares.groups())
        if first >= end or int(shares[2]) > 100:
            raise ValueError(f"{number} of the {len(source)} records of {source.spec} is none of them, or more")
        return Subset(source, number, end - first, first)
    if not 1 <= count <= len(source):
        raise ValueError(f"{count} records were asked for, {source.spec} has {len(source)}")
    return Subset(source, str(count), count)
