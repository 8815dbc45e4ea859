"""What subsets, mixtures and choices of columns share: their records are those of other sources."""

import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from mdc_jax.data.sources.base import OPTIONAL, Family, Foil, Record, Source, check_index


class Derived:
    """A source whose record `index` is record `locate(index)[1]` of source `locate(index)[0]`.

    It has the label families that all sources have, offers of OPTIONAL what all of them offer, and holds unsafe what
    one of them does.
    """

    offers: Sequence[str] = OPTIONAL

    def __init__(self, spec: str, sources: Sequence[Source], *definition: object) -> None:
        """Takes the sources, and whatever else decides what the records are."""
        self.spec = spec
        self.families = _common([source.families for source in sources])
        self.unsafe = {name: why for source in sources for name, why in getattr(source, "unsafe", {}).items()}
        content = (*definition, *(source.fingerprint for source in sources))
        self.fingerprint = hashlib.sha256(repr(content).encode()).hexdigest()
        for name in self.offers:
            if all(hasattr(source, name) for source in sources):
                setattr(self, name, self._foil if name == "foils" else functools.partial(self._call, name))
        if hasattr(self, "foils"):
            first, *others = (source.foil_kinds for source in sources)
            self.foil_kinds = tuple(kind for kind in first if all(kind in other for other in others))
        self.sources = sources

    def locate(self, index: int) -> tuple[Source, int]:
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, index: int) -> Record:
        check_index(self, index)
        source, own = self.locate(index)
        return source[own]

    def _call(self, name: str, index: int, *rest: Any) -> Any:
        source, own = self.locate(index)
        return getattr(source, name)(own, *rest)

    def _foil(self, kind: str, index: int) -> Foil:
        """The sources take turns; they have no foils of their own for a part of their records."""
        own, turn = divmod(index, len(self.sources))
        return self.sources[turn].foils(kind, own)


def _common(families: Sequence[Mapping[str, Family]]) -> dict[str, Family]:
    first, *others = families
    return {name: family for name, family in first.items() if all(other.get(name) == family for other in others)}
