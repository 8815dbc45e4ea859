"""Some of the records of a source: "subset:N:SPEC", as in "subset:5M:array_record:DIR:train".

The records stand in one pseudorandom order, and a subset has the first N of it. So it is a fair sample, and a smaller
subset is contained in every larger one of the same source. N is a number, with k or M where that is shorter.
"""

import re

from mdc_jax.data import plan
from mdc_jax.data.sources import open_source
from mdc_jax.data.sources.base import Source
from mdc_jax.data.sources.derived import Derived

_UNITS = {"": 1, "k": 1_000, "M": 1_000_000}


class Subset(Derived):
    """See the module."""

    def __init__(self, source: Source, count: int) -> None:
        super().__init__(f"subset:{count}:{source.spec}", [source], "subset", count)
        self._source = source
        self._count = count

    def __len__(self) -> int:
        return self._count

    def locate(self, index: int) -> tuple[Source, int]:
        return self._source, plan.sample(index, len(self._source))


def open(rest: str) -> Subset:
    """Opens "N:SPEC"; raises ValueError where the source has fewer records, and for a mixture."""
    number, _, spec = rest.partition(":")
    match = re.fullmatch(r"([0-9][0-9_]*)([kM]?)", number)
    if not match or not spec:
        raise ValueError("a subset is written subset:N:SPEC, as in subset:5M:array_record:DIR:train")
    count = int(match[1]) * _UNITS[match[2]]
    source = open_source(spec)
    if hasattr(source, "parts"):
        raise ValueError("a subset of a mixture would lose its weights; write a mixture of subsets")
    if not 1 <= count <= len(source):
        raise ValueError(f"{count} records were asked for, {source.spec} has {len(source)}")
    return Subset(source, count)
