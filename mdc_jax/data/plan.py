"""Which record stands at which position: a pure function of (seed, position).

A position counts the examples seen since the start of training, so a run on any number of hosts, or one
that resumes, asks for the same positions and gets the same records. Every epoch visits every record once,
in an order of its own that is computed, never stored.
"""

import dataclasses
import functools
import hashlib

_ROUNDS = 6
_MASK = 2**64 - 1


@dataclasses.dataclass(frozen=True)
class Plan:
    """The order of `num_records` records in every epoch; without `shuffle` it is their own order."""

    num_records: int
    seed: int
    shuffle: bool = True

    def __post_init__(self) -> None:
        if self.num_records < 1:
            raise ValueError(f"a plan needs at least one record, got {self.num_records}")

    def locate(self, position: int) -> tuple[int, int]:
        """(epoch, record) of a position >= 0, in O(1)."""
        epoch, offset = divmod(position, self.num_records)
        if not self.shuffle:
            return epoch, offset
        return epoch, _permute(offset, self.num_records, _round_keys(self.seed, epoch, "record"))

    def permuted_caption(self, position: int) -> int:
        """The record whose caption takes the place of the own one at this position.

        Independent of the order of the images and another permutation in every epoch: each caption is
        used once, and about one image of the whole epoch keeps its own.
        """
        epoch, offset = divmod(position, self.num_records)
        return _permute(offset, self.num_records, _round_keys(self.seed, epoch, "caption"))


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
