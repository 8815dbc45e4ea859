"""Which record stands at which position: a pure function of (seed, position).

A position counts the examples seen since the start of training, so a run on any number of hosts, or one
that resumes, asks for the same positions and gets the same records. Every epoch visits every record once,
in an order of its own that is computed, never stored.
"""

import dataclasses
import fractions
import functools
import hashlib
import itertools
from collections.abc import Iterator, Sequence, Sized
from typing import NamedTuple

_ROUNDS = 6
_MASK = 2**64 - 1


@dataclasses.dataclass(frozen=True)
class Plan:
    """The order of `num_records` records in every epoch; without `shuffle` it is their own order.

    Plans of the same seed and another `stream` are independent of each other.
    """

    num_records: int
    seed: int
    shuffle: bool = True
    stream: str = ""

    def __post_init__(self) -> None:
        if self.num_records < 1:
            raise ValueError(f"a plan needs at least one record, got {self.num_records}")

    def locate(self, position: int) -> tuple[int, int]:
        """(epoch, record) of a position >= 0, in O(1)."""
        epoch, offset = divmod(position, self.num_records)
        if not self.shuffle:
            return epoch, offset
        return epoch, _permute(offset, self.num_records, _round_keys(self.seed, epoch, f"{self.stream}record"))

    def permuted_caption(self, position: int) -> int:
        """The record whose caption takes the place of the own one at this position.

        Independent of the order of the images and another permutation in every epoch: each caption is
        used once, and about one image of the whole epoch keeps its own.
        """
        epoch, offset = divmod(position, self.num_records)
        return _permute(offset, self.num_records, _round_keys(self.seed, epoch, f"{self.stream}caption"))

    def spread(self, count: int) -> Iterator[int]:
        """`count` records in their own order, evenly spread over all."""
        return (index * self.num_records // count for index in range(count))


class Part(NamedTuple):
    """A part of a mixture: its share of the positions, up to a common factor, and its records."""

    weight: fractions.Fraction
    num_records: int


class MixedPlan:
    """Plans of several parts, interleaved by weight; their records are numbered one part after the other.

    Among the first n positions every part has n times its share, give or take less than one example for each part.
    A part has epochs of its own: it visits each of its records once before any for the second time.
    """

    def __init__(self, parts: Sequence[Part], seed: int, shuffle: bool = True) -> None:
        self._plans = [Plan(part.num_records, seed, shuffle, f"{number}/") for number, part in enumerate(parts)]
        self._firsts = list(itertools.accumulate((part.num_records for part in parts), initial=0))
        totals = list(itertools.accumulate(part.weight for part in reversed(parts)))[::-1]
        # Of the positions that are not of an earlier part, the share that is of this one; 1 for the last part.
        self._shares = [part.weight / total for part, total in zip(parts, totals, strict=True)]

    def locate(self, position: int) -> tuple[int, int]:
        """(epoch of the part, record) of a position >= 0, at a cost that grows with the number of parts alone."""
        part, turn = self._turn(position)
        epoch, record = self._plans[part].locate(turn)
        return epoch, self._firsts[part] + record

    def permuted_caption(self, position: int) -> int:
        """As `Plan.permuted_caption`; captions stay within their part."""
        part, turn = self._turn(position)
        return self._firsts[part] + self._plans[part].permuted_caption(turn)

    def spread(self, count: int) -> Iterator[int]:
        """`count` records, as many of every part as its share, evenly spread over the part."""
        turns = self._turns(count)
        for position in range(count):
            part, turn = self._turn(position)
            yield self._firsts[part] + turn * self._plans[part].num_records // turns[part]

    def _turn(self, position: int) -> tuple[int, int]:
        """The part that stands at a position, and how many of its examples stand before."""
        before, after = self._turns(position), self._turns(position + 1)
        part = next(part for part, turn in enumerate(before) if after[part] > turn)
        return part, before[part]

    def _turns(self, position: int) -> list[int]:
        """How many examples of every part stand before a position."""
        turns = []
        for share in self._shares:
            turns.append(position * share.numerator // share.denominator)
            position -= turns[-1]
        return turns


def plan_of(source: Sized, seed: int, shuffle: bool = True) -> Plan | MixedPlan:
    """The order in which a source is read; a source with `parts` is read as their mixture."""
    parts = getattr(source, "parts", None)
    return MixedPlan(parts, seed, shuffle) if parts else Plan(len(source), seed, shuffle)


def sample(index: int, count: int) -> int:
    """A fixed pseudorandom order of range(count), whose first n are a fair sample for every n."""
    return _permute(index, count, _round_keys(0, 0, "sample"))


@functools.lru_cache(maxsize=64)
def _round_keys(seed: int, epoch: int, purpose: str) -> tuple[int, ...]:
    text = f"{seed}/{epoch}/{purpose}".encode()
    return tuple(
        int.from_bytes(hashlib.blake2b(text + bytes([turn]), digest_size=8).digest(), "little")
        for turn in range(_ROUNDS)
    )


def _permute(index: int, count: int, keys: tuple[int, ...]) -> int:
    """A keyed pseudorandom bijection of range(count).

    A Feistel network (Luby and Rackoff 1988) permutes the smallest range of 2^bits that holds `count`;
    values that leave range(count) are sent through again until one comes back (cycle walking, Black and
    Rogaway 2002), which takes fewer than two passes on average.
    """
    bits = (count - 1).bit_length()
    low_bits = bits // 2
    low_mask, high_mask = (1 << low_bits) - 1, (1 << (bits - low_bits)) - 1
    low, high = index & low_mask, index >> low_bits
    while True:
        for turn in range(0, _ROUNDS, 2):
            high ^= _mix(low, keys[turn]) & high_mask
            low ^= _mix(high, keys[turn + 1]) & low_mask
        result = high << low_bits | low
        if result < count:
            return result


def _mix(value: int, key: int) -> int:
    """32 well-mixed bits of value + key, by two rounds of multiplication and shift."""
    value = (value + key) * 0xBF58476D1CE4E5B9 & _MASK
    return ((value ^ value >> 31) * 0x94D049BB133111EB & _MASK) >> 32
