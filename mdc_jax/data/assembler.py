"""Rows of the plan to a batch: read, decode, crop, tokenize and collate.

Shapes: B rows, C captions of an image, L tokens, S pixels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mdc_jax.config import sections
from mdc_jax.data import augmentation, images
from mdc_jax.data.batch import LABEL_PREFIX, PAD_ID
from mdc_jax.data.captions import DRAWN, draw, text_of
from mdc_jax.data.readers import Readers
from mdc_jax.data.retries import Retries
from mdc_jax.data.sources.base import BadRecord, Record, Source
from mdc_jax.data.texts import MAX_CAPTION, has_words
from mdc_jax.data.tokenizer import Tokenizer

NO_ID = -1  # of rows that only fill up the last evaluation batch
_AUGMENTATION = 0  # the purpose of random numbers, beside DRAWN


class Row(NamedTuple):
    """What stands in a row of a batch; `epoch` None: no augmentation."""

    record: int
    caption: int  # the record that gives the captions
    epoch: int | None


class Reading(NamedTuple):
    """What was read for a row of a batch: a record and token ids, or a fault."""

    index: int
    row: Row
    record: Record | None = None
    texts: Sequence[Sequence[int]] = ()
    fault: str | None = None


class Fault(NamedTuple):
    record: int
    reason: str


Rows = Sequence[Row | None]  # None: padding
Made = tuple[dict[str, np.ndarray], list[Fault]]


class Assembler:
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

    def __call__(self, rows: Rows, canvas: int = 0) -> Made:
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
                    faults.append(Fault(read.row.record, reason))
                    self._erase(batch, read.index)
        batch["image"][~batch["_mask"]] = 0
        return batch, faults

    def close(self) -> None:
        self.readers.close()

    def _attempt(self, place: tuple[int, Row]) -> Reading:
        """The record of a row and the captions that go with it as token ids, or what is wrong with them."""
        index, row = place
        try:
            record = self.retries(self._source.__getitem__, self._source.spec, row.record)
            text = record if row.caption == row.record else text_of(self._source, row.caption, self.retries)
            if any(len(caption) > MAX_CAPTION for caption in text.captions):
                raise BadRecord("huge caption")
            texts = self._tokenize(self._choose(text, row))
        except BadRecord as fault:
            return Reading(index, row, fault=fault.reason)
        if not texts and not self._families:
            return Reading(index, row, fault="no caption")
        return Reading(index, row, record, texts)

    def _empty(self, size: int, canvas: int) -> dict[str, np.ndarray]:
        """A batch of no examples, whose pixels may be anything: to write zeros first takes time."""
        data, pixels = self._config.data, self._config.image.size
        batch = {
            "image": np.empty((size, pixels, pixels, 3), np.uint8),
            "text": np.full((size, data.captions_per_image, canvas), PAD_ID, np.int32),
            "length": np.zeros((size, data.captions_per_image), np.int32),
            "id": np.full(size, NO_ID, np.int32),
            "_mask": np.zeros(size, bool),
        }
        for name, family in self._families.items():
            presence = family.kind == "presence"
            label = np.zeros((size, len(family.names)), np.uint8) if presence else np.full(size, -1, np.int32)
            batch[LABEL_PREFIX + name] = label
        return batch

    def _write_captions(self, batch: dict[str, np.ndarray], read: Reading) -> None:
        """Writes everything but the image."""
        batch["id"][read.index] = read.row.record
        for number, ids in enumerate(read.texts):
            batch["text"][read.index, number, : len(ids)] = ids
            batch["length"][read.index, number] = len(ids)
        if read.record is not None:
            for family in self._families:
                batch[LABEL_PREFIX + family][read.index] = read.record.labels[family]

    def _write_image(self, batch: dict[str, np.ndarray], read: Reading) -> str | None:
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

    def _choose(self, text: Record, row: Row) -> Sequence[str]:
        """At most C captions that have words: the first ones, or in training any.

        Weighted captions are drawn before those without words are left out, so that a missing one takes the place of
        no other.
        """
        captions, count = text.captions, self._config.data.captions_per_image
        if not text.weights:
            captions = [caption for caption in captions if has_words(caption)]
        if len(captions) > count:
            rng = self._rng(row, DRAWN)
            if rng is not None:
                captions = [captions[choice] for choice in draw(rng, len(captions), count, text.weights)]
        return [caption for caption in captions[:count] if has_words(caption)]

    def _tokenize(self, captions: Sequence[str]) -> list[list[int]]:
        if self._tokenizer is None:
            return []
        texts = (self._tokenizer.encode(caption, self._config.data.max_tokens) for caption in captions)
        return [ids for ids in texts if len(ids) > 1]

    def _rng(self, row: Row, purpose: int) -> np.random.Generator | None:
        if row.epoch is None:
            return None
        return np.random.default_rng((self._config.seed % 2**64, row.epoch, row.record, purpose))
