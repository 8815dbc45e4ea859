"""Batches of captions of similar length, so that little work is done on padding.

The positions of the plan are taken in windows. Within a window the examples are sorted by the bucket of their caption,
cut into runs of as many examples as a batch has, and the runs are shuffled. So no example is lost or seen twice, a
window is a few batches long, and what stands at a position stays a pure function of (seed, position).

One run in eight, evenly spread over the lengths, is as long as the last bucket whatever it holds: evaluation gives all
captions that length, which short ones would otherwise never have had in training.
"""

import functools
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from mdc_jax.config import ConfigError
from mdc_jax.data.plan import Plan
from mdc_jax.data.sources.base import BadRecord, Source
from mdc_jax.data.tokenizer import Tokenizer

_RUNS = 32  # of a window; of each bucket but the last, at most one run a window also holds longer captions
_WHOLE = 8  # of so many runs, one is as long as the last bucket


class _Window(NamedTuple):
    positions: np.ndarray  # i64[runs, run], of the plan
    buckets: np.ndarray  # i64[runs], how long the texts of each run are


class LengthBuckets:
    """Which position of the plan is read when, and how long the texts of a batch are."""

    def __init__(
        self, length: Callable[[int], int], limits: Sequence[int], *, run: int, num_records: int, seed: int
    ) -> None:
        """Takes the definition of the order; nothing is read yet.

        Args:
          length: position of the plan → tokens of the longest caption that may stand there.
          limits: the length of every bucket, ascending; longer captions are in the last.
          run: examples that stand together, the batch size. Batches of another size are as long as the longest of the
            runs that they touch.
          num_records: of an epoch; no window is longer, unless a run is.
          seed: of the order of runs.
        """
        self._length, self._limits, self._run = length, tuple(limits), run
        self._order = Plan(max(min(_RUNS, num_records // run), 1), seed, stream="length bucket/")
        self._lock = threading.Lock()  # a window is made once, not by every thread that needs it
        self._window = functools.lru_cache(maxsize=16)(self._make)

    def locate(self, position: int) -> int:
        """The position of the plan whose example stands at this position."""
        run, place = divmod(position, self._run)
        number, turn = self._order.locate(run)
        return int(self._at(number).positions[turn, place])

    def canvas(self, start: int, count: int) -> int:
        """Tokens that every text of the batch at positions start ... start + count - 1 has, one of the limits."""
        runs = range(start // self._run, (start + count - 1) // self._run + 1)
        located = [self._order.locate(run) for run in runs]
        return self._limits[max(self._at(number).buckets[turn] for number, turn in located)]

    def _at(self, number: int) -> _Window:
        with self._lock:
            return self._window(number)

    def _make(self, number: int) -> _Window:
        shape = self._order.num_records, self._run
        first = number * shape[0] * shape[1]
        lengths = [self._length(first + index) for index in range(shape[0] * shape[1])]
        buckets = bucket_of(lengths, self._limits)
        order = np.argsort(buckets, kind="stable").reshape(shape)
        # Sorted runs, so that those with the whole length are a fair sample, and another one in every window.
        whole = np.arange(shape[0]) % _WHOLE == number % _WHOLE
        return _Window(first + order, np.where(whole, len(self._limits) - 1, buckets[order[:, -1]]))


def bucket_of(lengths: Sequence[int], limits: Sequence[int]) -> np.ndarray:
    """i64[N]: which of the ascending limits is the first to hold each of N lengths; the last where none does."""
    return np.minimum(np.searchsorted(limits, lengths), len(limits) - 1)


def caption_length(source: Source, tokenizer: Tokenizer, caption: Callable[[int], int]) -> Callable[[int], int]:
    """Returns position → tokens, where `caption` says which record's captions stand at a position; 0 for damaged ones.

    Raises:
      ConfigError: the source knows no lengths.
    """
    if not hasattr(source, "length"):
        raise ConfigError(
            f"data.buckets: {source.spec} cannot say how long captions are without reading the images. Write it as "
            "records by a prepare command with --tokenizer=MODEL, and name that model in tokenizer.model; "
            "or set data.buckets=()"
        )

    def length(position: int) -> int:
        try:
            return source.length(caption(position), tokenizer)
        except BadRecord:
            return 0

    return length
