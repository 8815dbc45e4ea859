"""From a source to batches: read, decode, crop, tokenize and collate, in threads.

Shapes: B rows of this host's part of the global batch, C captions of an image, L tokens, S pixels.

A position of the plan is an example, a global batch is `data.batch_size` consecutive positions, and host h of n
holds its h-th n-th, as contiguous rows. Nothing here has a state beside the position it started at.
"""

import collections
import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import grain
import numpy as np
from absl import logging

from mdc_jax.config import ConfigError, sections
from mdc_jax.data import augmentation, images
from mdc_jax.data.batch import LABEL_PREFIX, PAD_ID
from mdc_jax.data.length_buckets import LengthBuckets, caption_length
from mdc_jax.data.plan import plan_of
from mdc_jax.data.readers import Readers, read_ahead
from mdc_jax.data.retries import ReadError, Retries
from mdc_jax.data.sources.base import BadRecord, Record, Source
from mdc_jax.data.texts import MAX_CAPTION, has_words
from mdc_jax.data.tokenizer import Tokenizer
from mdc_jax.data.tokenizer import train as train_tokenizer

_CHECK_AFTER = 1_000  # examples seen, or all of fewer, before the share of bad ones is judged
_MAX_WARNINGS = 20
_NO_ID = -1  # of rows that only fill up the last evaluation batch
_AUGMENTATION, _CAPTIONS = 0, 1  # purposes of random numbers


class TooManyBadRecords(RuntimeError):
    """More records than `data.max_bad_share` could not be used."""


DATA_ERRORS = (ReadError, TooManyBadRecords)  # what a user can mend in the data, for `command.reported`


class _Row(NamedTuple):
    """What stands in a row of a batch; `epoch` None: no augmentation."""

    record: int
    caption: int  # the record that gives the captions
    epoch: int | None


class _Reading(NamedTuple):
    """What was read for a row of a batch: a record and token ids, or a fault."""

    index: int
    row: _Row
    record: Record | None = None
    texts: Sequence[Sequence[int]] = ()
    fault: str | None = None


class _Fault(NamedTuple):
    record: int
    reason: str


_Rows = Sequence[_Row | None]  # None: padding
_Made = tuple[dict[str, np.ndarray], list[_Fault]]


class TrainBatches:
    """Endless training batches of this host, from a position on.

    Iterating gives dicts of the batch contract. `bad` counts the reasons of the masked rows in
    the batches given so far. Close it, or use it in a `with` block.
    """

    def __init__(
        self,
        source: Source,
        tokenizer: Tokenizer,
        config: sections.Config,
        *,
        position: int,
        process_index: int = 0,
        process_count: int = 1,
        keys: Sequence[str] | None = None,
        bucket_run: int = 0,
    ) -> None:
        """Starts the threads.

        Args:
          source: the records.
          tokenizer: for the captions.
          config: its seed, image and data sections are used.
          position: examples seen before, a multiple of nothing in particular.
          process_index: this host, of
          process_count: hosts, which must divide the batch size.
          keys: of the batch to give, beside `_mask`; with labels among them, an image needs no caption. None: all but
            labels.
          bucket_run: examples that stand together with data.buckets, see `LengthBuckets`; 0: the batch size.

        Raises:
          ConfigError: the source cannot give what data.buckets needs.
        """
        self.bad: collections.Counter[str] = collections.Counter()
        self._seen = 0
        self._spec = source.spec
        self._max_bad_share = config.data.max_bad_share
        self._check_after = min(_CHECK_AFTER, -(-len(source) // process_count))
        self._keys = None if keys is None else {*keys, "_mask"}
        plan = plan_of(source, config.seed)
        batch_size = config.data.batch_size
        rows = _local_rows(batch_size, process_index, process_count)
        permute = config.data.permute_captions

        def row(position: int) -> _Row:
            epoch, record = plan.locate(position)
            return _Row(record, plan.permuted_caption(position) if permute else record, epoch)

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
        self._assemble = assemble = _Assembler(source, tokenizer, config, labels)

        def make(start: int) -> _Made:
            places = [start + index for index in rows]
            if buckets is None:
                return assemble([row(place) for place in places])
            return assemble([row(buckets.locate(place)) for place in places], buckets.canvas(start, batch_size))

        def at(step: int) -> _Made:
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
        self._seen += len(batch["_mask"])
        self._count(faults)
        return batch if self._keys is None else {key: batch[key] for key in batch.keys() & self._keys}

    def _count(self, faults: Sequence[_Fault]) -> None:
        for fault in faults:
            self.bad[fault.reason] += 1
            _warn(self._spec, fault, self.bad.total())
        if self._seen >= self._check_after:
            _judge(self._spec, self.bad, self._seen, self._max_bad_share)

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
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[dict[str, np.ndarray]]:
    """The first `count` records (or all, if there are fewer) in their own order, without augmentation.

    Every host gets the same number of batches of batch_size / process_count rows. Rows beyond the last record
    are masked and have id -1. With `labels` (families of the source, given as "label/<family>": i32[B] for
    classes, u8[B, names] for presence) an image needs no caption; without, one that has none is masked.

    Raises:
      ValueError: the batch size or a family does not fit.
      ReadError: a record could not be read, after several attempts.
      TooManyBadRecords: see there; judged after the last batch.
    """
    assemble = _Assembler(source, tokenizer, config, labels)
    rows = _local_rows(batch_size, process_index, process_count)
    count = min(count, len(source))
    plan = plan_of(source, config.seed, shuffle=False)

    def row(position: int) -> _Row | None:
        if position >= count:
            return None
        _, record = plan.locate(position)
        return _Row(record, record, None)

    def make(step: int) -> _Made:
        return assemble([row(step * batch_size + index) for index in rows])

    made = _in_threads(make, -(-count // batch_size), config.data)
    return _judged(source.spec, made, assemble, config.data.max_bad_share)


def _again_and_again(made: _Made) -> Iterator[_Made]:
    while True:
        yield made


def _judged(
    spec: str, made: Iterator[_Made], assemble: "_Assembler", max_bad_share: float
) -> Iterator[dict[str, np.ndarray]]:
    bad, seen = collections.Counter(), 0
    try:
        for batch, faults in made:
            seen += int(np.count_nonzero(batch["id"] != _NO_ID))
            for fault in faults:
                bad[fault.reason] += 1
                _warn(spec, fault, bad.total())
            yield batch
    finally:
        assemble.retries.close()
        made.close()
        assemble.close()
    _judge(spec, bad, seen, max_bad_share)


def _judge(spec: str, bad: collections.Counter[str], seen: int, max_bad_share: float) -> None:
    if bad.total() > max_bad_share * seen:
        raise TooManyBadRecords(
            f"{spec}: {bad.total()} of {seen} examples cannot be used "
            f"({', '.join(f'{count} x {reason}' for reason, count in bad.most_common())}), more than "
            f"data.max_bad_share = {max_bad_share}. Repair the data, or raise data.max_bad_share in the config, "
            "of a finished run --max_bad_share of mdc_jax.evaluate."
        )


def read_captions(source: Source, limit: int) -> Iterator[str]:
    """The captions of at most `limit` records, spread evenly over the source; damaged records are left out.

    Of captions that have weights one is drawn, so that every column has its share.
    """

    def read(index: int) -> Sequence[str]:
        try:
            text = _text(source, index, retries)
        except BadRecord:
            return ()
        if not text.weights:
            return text.captions
        rng = np.random.default_rng((index, _CAPTIONS))
        return [text.captions[choice] for choice in _draw(rng, len(text.captions), 1, text.weights)]

    indices = plan_of(source, seed=0, shuffle=False).spread(min(limit, len(source)))
    with contextlib.closing(Retries()) as retries:
        for captions in read_ahead(read, indices):
            yield from filter(has_words, captions)


def make_tokenizer(config: sections.Config, source: Source) -> Tokenizer:
    """Loads the configured tokenizer, or trains one on the captions of `source`; raises ConfigError."""
    try:
        if config.tokenizer.model:
            return Tokenizer.load(config.tokenizer.model)
        return train_tokenizer(read_captions(source, config.tokenizer.train_captions), config.tokenizer)
    except (ValueError, FileNotFoundError) as error:
        raise ConfigError(f"tokenizer: {error}") from error


class _Assembler:
    """Rows to a batch; a damaged example becomes a masked row of zeros and a fault."""

    def __init__(
        self, source: Source, tokenizer: Tokenizer | None, config: sections.Config, labels: Sequence[str] = ()
    ) -> None:
        unknown = [family for family in labels if family not in source.families]
        if unknown:
            raise ValueError(f"{source.spec} has no labels {unknown}; it has {sorted(source.families)}")
        self._source = source
        self._tokenizer = tokenizer
        self._config = config
        self._families = {family: source.families[family] for family in labels}
        self._augments = any(augmentation.wanted(config.image).values())
        self.retries = Retries()
        self.readers = Readers(self._attempt, config.data)

    def __call__(self, rows: _Rows, canvas: int = 0) -> _Made:
        """The batch of these rows, with room for `canvas` tokens; 0: data.max_tokens."""
        batch = self._empty(len(rows), canvas or self._config.data.max_tokens)
        faults = []
        for some in self.readers([(index, row) for index, row in enumerate(rows) if row is not None]):
            for read in some:
                self._write_captions(batch, read)
            for read in some:
                reason = read.fault or self._write_image(batch, read)
                batch["_mask"][read.index] = reason is None
                if reason is not None:
                    faults.append(_Fault(read.row.record, reason))
                    self._erase(batch, read.index)
        batch["image"][~batch["_mask"]] = 0
        return batch, faults

    def close(self) -> None:
        self.readers.close()

    def _attempt(self, place: tuple[int, _Row]) -> _Reading:
        """The record of a row and the captions that go with it as token ids, or what is wrong with them."""
        index, row = place
        try:
            record = self.retries(self._source.__getitem__, self._source.spec, row.record)
            text = record if row.caption == row.record else _text(self._source, row.caption, self.retries)
            if any(len(caption) > MAX_CAPTION for caption in text.captions):
                raise BadRecord("huge caption")
            texts = self._tokenize(self._choose(text, row))
        except BadRecord as fault:
            return _Reading(index, row, fault=fault.reason)
        if not texts and not self._families:
            return _Reading(index, row, fault="no caption")
        return _Reading(index, row, record, texts)

    def _empty(self, size: int, canvas: int) -> dict[str, np.ndarray]:
        """A batch of no examples, whose pixels may be anything: to write zeros first takes time."""
        data, pixels = self._config.data, self._config.image.size
        batch = {
            "image": np.empty((size, pixels, pixels, 3), np.uint8),
            "text": np.full((size, data.captions_per_image, canvas), PAD_ID, np.int32),
            "length": np.zeros((size, data.captions_per_image), np.int32),
            "id": np.full(size, _NO_ID, np.int32),
            "_mask": np.zeros(size, bool),
        }
        for name, family in self._families.items():
            presence = family.kind == "presence"
            label = np.zeros((size, len(family.names)), np.uint8) if presence else np.full(size, -1, np.int32)
            batch[LABEL_PREFIX + name] = label
        return batch

    def _write_captions(self, batch: dict[str, np.ndarray], read: _Reading) -> None:
        """Writes everything but the image."""
        batch["id"][read.index] = read.row.record
        for number, ids in enumerate(read.texts):
            batch["text"][read.index, number, : len(ids)] = ids
            batch["length"][read.index, number] = len(ids)
        if read.record is not None:
            for family in self._families:
                batch[LABEL_PREFIX + family][read.index] = read.record.labels[family]

    def _write_image(self, batch: dict[str, np.ndarray], read: _Reading) -> str | None:
        """Writes the image, or returns why that cannot be."""
        settings, out = self._config.image, batch["image"][read.index]
        rng = self._rng(read.row, _AUGMENTATION) if self._augments else None
        try:
            pixels = images.prepare(read.record.image, settings, rng, out)
        except BadRecord as fault:
            return fault.reason
        if rng is not None:
            out[...] = augmentation.augment(pixels, settings, rng)
        return None

    def _erase(self, batch: dict[str, np.ndarray], index: int) -> None:
        """Makes row `index` what it was in the empty batch, but for its id and its pixels."""
        for key, empty in self._empty(1, batch["text"].shape[-1]).items():
            if key not in ("id", "image"):
                batch[key][index] = empty[0]

    def _choose(self, text: Record, row: _Row) -> Sequence[str]:
        """At most C captions that have words: the first ones, or in training any.

        Weighted captions are drawn before those without words are left out, so that a missing one takes the place of
        no other.
        """
        captions, count = text.captions, self._config.data.captions_per_image
        if not text.weights:
            captions = [caption for caption in captions if has_words(caption)]
        if len(captions) > count:
            rng = self._rng(row, _CAPTIONS)
            if rng is not None:
                captions = [captions[choice] for choice in _draw(rng, len(captions), count, text.weights)]
        return [caption for caption in captions[:count] if has_words(caption)]

    def _tokenize(self, captions: Sequence[str]) -> list[list[int]]:
        if self._tokenizer is None:
            return []
        texts = (self._tokenizer.encode(caption, self._config.data.max_tokens) for caption in captions)
        return [ids for ids in texts if len(ids) > 1]

    def _rng(self, row: _Row, purpose: int) -> np.random.Generator | None:
        if row.epoch is None:
            return None
        return np.random.default_rng((self._config.seed % 2**64, row.epoch, row.record, purpose))


def _local_rows(batch_size: int, process_index: int, process_count: int) -> range:
    if batch_size % process_count:
        raise ValueError(f"a batch of {batch_size} cannot be split over {process_count} hosts; choose a multiple of it")
    local = batch_size // process_count
    return range(process_index * local, (process_index + 1) * local)


class _Steps:
    """A random-access data set for Grain, whose elements are whole batches."""

    def __init__(self, make: Callable[[int], _Made], count: int | None) -> None:
        self._make = make
        self._count = count

    def __len__(self) -> int:
        return 2**62 if self._count is None else self._count

    def __getitem__(self, step: int) -> _Made:
        return self._make(step)


def _in_threads(make: Callable[[int], _Made], count: int | None, data: sections.Data) -> grain.DatasetIterator:
    """make(0), make(1), ... in order, made ahead of time: a thread per batch costs nothing per example."""
    options = grain.ReadOptions(num_threads=data.threads, prefetch_buffer_size=data.prefetch)
    return iter(grain.MapDataset.source(_Steps(make, count)).to_iter_dataset(options))


def _text(source: Source, index: int, retries: Retries) -> Record:
    """A record for its captions alone, without the image where the source has them at less cost."""
    if hasattr(source, "captions"):
        return Record(b"", retries(source.captions, source.spec, index))
    return retries(source.__getitem__, source.spec, index)


def _draw(rng: np.random.Generator, number: int, count: int, weights: Sequence[float]) -> np.ndarray:
    """`count` of range(number), none twice; fewer where fewer have a weight above 0."""
    if not weights:
        return rng.permutation(number)[:count]
    return rng.choice(number, min(count, np.count_nonzero(weights)), replace=False, p=weights)


def _warn(spec: str, fault: _Fault, total: int) -> None:
    if total <= _MAX_WARNINGS:
        logging.warning("%s: record %d is masked: %s", spec, fault.record, fault.reason)
    if total == _MAX_WARNINGS:
        logging.warning("%s: further masked records are counted, not named", spec)
