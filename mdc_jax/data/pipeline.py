"""From a source to batches, in threads.

Shapes: B rows of the global batch that this host holds, C captions of an image, L tokens, S pixels.

A position of the plan is an example, a global batch is `data.batch_size` consecutive positions, and a host reads those
of its rows. Nothing here has a state beside the position it started at.
"""

import collections
from collections.abc import Callable, Iterator, Sequence

import grain
import numpy as np
from absl import logging

from mdc_jax.config import sections
from mdc_jax.data.assembler import NO_ID, Assembler, Fault, Made, Row
from mdc_jax.data.batch import LABEL_PREFIX
from mdc_jax.data.length_buckets import LengthBuckets, caption_length
from mdc_jax.data.plan import plan_of
from mdc_jax.data.retries import ReadError
from mdc_jax.data.sources.base import Source
from mdc_jax.data.tokenizer import Tokenizer

_CHECK_AFTER = 1_000  # examples seen, or all of fewer, before the share of bad ones is judged
_MAX_WARNINGS = 20


class TooManyBadRecords(RuntimeError):
    """More records than `data.max_bad_share` could not be used."""


DATA_ERRORS = (ReadError, TooManyBadRecords)  # what a user can mend in the data, for `command.reported`


class TrainBatches:
    """Endless training batches of this host, from a position on.

    Iterating gives dicts of the batch contract. Close it, or use it in a `with` block.
    """

    def __init__(
        self,
        source: Source,
        tokenizer: Tokenizer,
        config: sections.Config,
        *,
        position: int,
        rows: Sequence[int] | None = None,
        keys: Sequence[str] | None = None,
        bucket_run: int = 0,
    ) -> None:
        """Starts the threads.

        Args:
          source: the records.
          tokenizer: for the captions.
          config: its seed, image and data sections are used.
          position: examples seen before, a multiple of nothing in particular.
          rows: of a global batch that this host holds; None: all.
          keys: of the batch to give, beside `_mask`; with labels among them, an image needs no caption. None: all but
            labels.
          bucket_run: examples that stand together with data.buckets, see `LengthBuckets`; 0: the batch size.

        Raises:
          ConfigError: the source cannot give what data.buckets needs.
        """
        self._tally = _Tally(source.spec, config.data.max_bad_share)
        self._keys = None if keys is None else {*keys, "_mask"}
        plan = plan_of(source, config.seed)
        batch_size = config.data.batch_size
        rows = range(batch_size) if rows is None else rows
        self._check_after = min(_CHECK_AFTER, -(-len(source) * len(rows) // batch_size))
        permute = config.data.permute_captions

        def row(position: int) -> Row:
            epoch, record = plan.locate(position)
            return Row(record, plan.permuted_caption(position) if permute else record, epoch)

        buckets = None
        if config.data.buckets:
            buckets = LengthBuckets(
                caption_length(source, tokenizer, lambda position: row(position).caption),
                config.data.buckets,
                run=bucket_run or batch_size,
                num_records=len(source),
                seed=config.seed,
            )
            buckets.canvas(position, 1)  # so that lengths that cannot be had are said here, not in a thread

        labels = [key.removeprefix(LABEL_PREFIX) for key in keys or () if key.startswith(LABEL_PREFIX)]
        self._assemble = assemble = Assembler(source, tokenizer, config, labels)

        def make(start: int) -> Made:
            places = [start + index for index in rows]
            if buckets is None:
                return assemble([row(place) for place in places])
            return assemble([row(buckets.locate(place)) for place in places], buckets.canvas(start, batch_size))

        def at(step: int) -> Made:
            return make(position + step * batch_size)

        self._batches = _again_and_again(make(0)) if config.data.repeat_batch else _in_threads(at, None, config.data)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        """The next local batch.

        Raises:
          ReadError: a record could not be read, after several attempts.
          TooManyBadRecords: see there; judged from 1,000 examples on, or once all records were seen.
        """
        batch, faults = next(self._batches)
        self._tally.add(len(batch["_mask"]), faults)
        if self._tally.seen >= self._check_after:
            self._tally.judge()
        return batch if self._keys is None else {key: batch[key] for key in batch.keys() & self._keys}

    @property
    def bad(self) -> collections.Counter[str]:
        """How many rows of the batches given so far are masked, by reason."""
        return self._tally.bad

    @property
    def readers(self) -> int:
        """Records read at once; 0: not measured yet."""
        return self._assemble.readers.count

    def close(self) -> None:
        """Ends the threads."""
        self._assemble.retries.close()
        self._batches.close()
        self._assemble.close()

    def __enter__(self) -> "TrainBatches":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def eval_batches(
    source: Source,
    tokenizer: Tokenizer,
    config: sections.Config,
    *,
    count: int,
    batch_size: int,
    labels: Sequence[str] = (),
    rows: Sequence[int] | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """The first `count` records (or all, if there are fewer) in their own order, without augmentation.

    Every host gets the same number of batches, each of its `rows` of a global one (None: all). Rows beyond the last
    record are masked and have id -1. With `labels` (families of the source, given as "label/<family>": i32[B] for
    classes, u8[B, names] for presence) an image needs no caption; without, one that has none is masked.

    Raises:
      ValueError: a family does not fit.
      ReadError: a record could not be read, after several attempts.
      TooManyBadRecords: see there; judged after the last batch.
    """
    assemble = Assembler(source, tokenizer, config, labels)
    rows = range(batch_size) if rows is None else rows
    count = min(count, len(source))
    plan = plan_of(source, config.seed, shuffle=False)

    def row(position: int) -> Row | None:
        if position >= count:
            return None
        _, record = plan.locate(position)
        return Row(record, record, None)

    def make(step: int) -> Made:
        return assemble([row(step * batch_size + index) for index in rows])

    made = _in_threads(make, -(-count // batch_size), config.data)
    return _judged(made, assemble, _Tally(source.spec, config.data.max_bad_share))


def _again_and_again(made: Made) -> Iterator[Made]:
    while True:
        yield made


def _judged(made: Iterator[Made], assemble: Assembler, tally: "_Tally") -> Iterator[dict[str, np.ndarray]]:
    try:
        for batch, faults in made:
            tally.add(int(np.count_nonzero(batch["id"] != NO_ID)), faults)
            yield batch
    finally:
        assemble.retries.close()
        made.close()
        assemble.close()
    tally.judge()


class _Tally:
    """How many examples of a source were seen, and which of them could not be used."""

    def __init__(self, spec: str, max_bad_share: float) -> None:
        self.seen = 0
        self.bad: collections.Counter[str] = collections.Counter()
        self._spec, self._max_bad_share = spec, max_bad_share

    def add(self, seen: int, faults: Sequence[Fault]) -> None:
        """Counts the examples of a batch; the first faults are named in the log."""
        self.seen += seen
        for fault in faults:
            self.bad[fault.reason] += 1
            if self.bad.total() <= _MAX_WARNINGS:
                logging.warning("%s: record %d is masked: %s", self._spec, fault.record, fault.reason)
            if self.bad.total() == _MAX_WARNINGS:
                logging.warning("%s: further masked records are counted, not named", self._spec)

    def judge(self) -> None:
        """Raises TooManyBadRecords where more of them are bad than `max_bad_share` lets pass."""
        bad = self.bad
        if bad.total() > self._max_bad_share * self.seen:
            raise TooManyBadRecords(
                f"{self._spec}: {bad.total()} of {self.seen} examples cannot be used "
                f"({', '.join(f'{count} x {reason}' for reason, count in bad.most_common())}), more than "
                f"data.max_bad_share = {self._max_bad_share}. Repair the data, or raise data.max_bad_share in the "
                "config, of a finished run --max_bad_share of mdc_jax.evaluate."
            )


class _Steps:
    """A random-access data set for Grain, whose elements are whole batches."""

    def __init__(self, make: Callable[[int], Made], count: int | None) -> None:
        self._make = make
        self._count = count

    def __len__(self) -> int:
        return 2**62 if self._count is None else self._count

    def __getitem__(self, step: int) -> Made:
        return self._make(step)


def _in_threads(make: Callable[[int], Made], count: int | None, data: sections.Data) -> grain.DatasetIterator:
    """make(0), make(1), ... in order, made ahead of time: a thread per batch costs nothing per example."""
    options = grain.ReadOptions(num_threads=data.threads, prefetch_buffer_size=data.prefetch)
    return iter(grain.MapDataset.source(_Steps(make, count)).to_iter_dataset(options))
