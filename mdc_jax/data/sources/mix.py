"""A weighted mixture of sources: "mix:0.7*SPEC+0.3*SPEC".

Training and evaluation read the parts at their weights, whatever the sizes (see `plan.MixedPlan`). As a source, the
mixture has the records of all parts once, one part after the other; an epoch of it is as many examples.
"""

import bisect
import fractions
import itertools
import re
from collections.abc import Sequence

from mdc_jax.data.plan import Part
from mdc_jax.data.sources import NAMES, open_source
from mdc_jax.data.sources.base import Source
from mdc_jax.data.sources.derived import Derived

_PLUS = re.compile(r"\+(?=[0-9.]+\*)")  # not those within a spec


class Mixture(Derived):
    """See the module; its label families are those that all parts have."""

    def __init__(self, sources: Sequence[Source], weights: Sequence[fractions.Fraction]) -> None:
        spec = "mix:" + "+".join(
            f"{float(weight):g}*{source.spec}" for weight, source in zip(weights, sources, strict=True)
        )
        super().__init__(spec, sources, "mix", [str(weight / sum(weights)) for weight in weights])
        self.parts = tuple(Part(weight, len(source)) for weight, source in zip(weights, sources, strict=True))
        self._sources = sources
        self._ends = list(itertools.accumulate(len(source) for source in sources))

    def __len__(self) -> int:
        return self._ends[-1]

    def locate(self, index: int) -> tuple[Source, int]:
        part = bisect.bisect_right(self._ends, index)
        return self._sources[part], index - (self._ends[part - 1] if part else 0)


def open(rest: str) -> Mixture:
    """Opens "WEIGHT*SPEC+WEIGHT*SPEC..."; weights are decimal numbers above 0 and need not sum to 1.

    Raises:
      ValueError: a part has no weight above 0, is a mixture itself, or there is only one.
    """
    if re.search(r"\s\+\s*[0-9.]+\*|\+\s+[0-9.]+\*", rest):
        raise ValueError(f"{rest!r} has spaces around a +; a mixture is written mix:0.7*SPEC+0.3*SPEC")
    weights, sources = [], []
    for part in _PLUS.split(rest):
        number, _, spec = part.partition("*")
        if not re.fullmatch(r"[0-9]+\.?[0-9]*|\.[0-9]+", number) or not fractions.Fraction(number):
            raise ValueError(f"{part!r} has no weight above 0; a mixture is written mix:0.7*SPEC+0.3*SPEC")
        if "mix:" in spec:
            raise ValueError(f"{spec!r} is a mixture within a mixture; multiply the weights out")
        if bare := re.search(rf"\+({'|'.join(NAMES)}):.*", spec):
            raise ValueError(f"{bare[0][1:]!r} has no weight above 0; a mixture is written mix:0.7*SPEC+0.3*SPEC")
        weights.append(fractions.Fraction(number))
        sources.append(open_source(spec))
    if len(sources) < 2:
        raise ValueError("a mixture has two parts or more, as in mix:0.7*SPEC+0.3*SPEC")
    return Mixture(sources, weights)
