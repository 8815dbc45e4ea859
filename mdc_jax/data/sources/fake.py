"""Random pictures and captions of any shape, for diagnosis: "fake:train,size=224,words=20,count=100000".

Record i of a split is always the same. The picture's tint is its class and the caption's first word names it, so
that there is something to learn; the other words are noise.
"""

import dataclasses
import hashlib

import numpy as np

from mdc_jax.data.sources import options
from mdc_jax.data.sources.base import Family, Record, check_index

_COUNTS = {"train": 100_000, "validation": 1_000, "test": 1_000}
_WORDS = tuple(
    first + second for first in ["b", "d", "f", "g", "k", "l", "m", "n"] for second in ["a", "e", "i", "o", "u"]
)
_TINTS = tuple((red, green, blue) for red in (64, 192) for green in (64, 192) for blue in (64, 192))
_NOISE_BITS = 6


@dataclasses.dataclass(frozen=True)
class _Options:
    size: int = 224
    words: int = 20
    count: int = 0  # 0: the split's own

    def __post_init__(self) -> None:
        for name, least in (("size", 1), ("words", 1), ("count", 0)):
            value = getattr(self, name)
            options.check("fake", name, value, value >= least, f"at least {least}")


class FakeSource:
    """See the module."""

    def __init__(self, split: str, given: _Options) -> None:
        self.spec = f"fake:{split},size={given.size},words={given.words},count={given.count}"
        self.fingerprint = hashlib.sha256(self.spec.encode()).hexdigest()
        self.families = {"tint": Family("class", _WORDS[: len(_TINTS)])}
        self._split = tuple(_COUNTS).index(split)
        self._options = given
        self._count = given.count or _COUNTS[split]

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Record:
        check_index(self, index)
        rng = np.random.default_rng((self._split, index))
        tint = int(rng.integers(len(_TINTS)))
        size, words = self._options.size, self._options.words
        noise = np.frombuffer(rng.bytes(size * size * 3), np.uint8).reshape(size, size, 3) >> 8 - _NOISE_BITS
        image = np.asarray(_TINTS[tint], np.uint8) + noise
        caption = [_WORDS[tint], *(_WORDS[word] for word in rng.integers(len(_WORDS), size=words - 1))]
        return Record(image, (" ".join(caption),), {"tint": np.int32(tint)})


def open(rest: str) -> FakeSource:
    """Opens "SPLIT[,size=PIXELS][,words=N][,count=N]"; raises ValueError for anything else."""
    split, *items = rest.split(",")
    if split not in _COUNTS:
        raise ValueError(f"fake has no split {split!r}; it has {', '.join(_COUNTS)}")
    return FakeSource(split, _Options(**options.read("fake", items, dict.fromkeys(("size", "words", "count"), int))))
