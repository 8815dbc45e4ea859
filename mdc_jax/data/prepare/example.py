"""One example as it is stored, an entry of an ArrayRecord file:

bytes 0-3    "MDC1"
bytes 4-7    length of the header, unsigned, little endian
header       JSON: {"captions": [text, ...], "labels": {family: number or list}, "about": {...}}; with several
             columns of text also "columns": {name: [text, ...]}, "captions" being those of the default one
the rest     the image as it was encoded (JPEG, PNG ...)
"""

import dataclasses
import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from mdc_jax.data.sources.base import BadRecord, Family, Record, number

_MAGIC = b"MDC1"
_LENGTH = struct.Struct("<I")
SMALLEST = len(_MAGIC) + _LENGTH.size  # bytes that every entry has


@dataclasses.dataclass(frozen=True)
class Example:
    """What is stored of one example.

    `about` is free (file name, size, author ...) and JSON; its "id", where that is a number, is
    `Record.published_id`. `columns` are the texts by name where there are several columns of them; `captions` are then
    those of the default one.
    """

    image: bytes
    captions: tuple[str, ...]
    labels: Mapping[str, int | list[int]] = dataclasses.field(default_factory=dict)
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    columns: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def pack(self) -> bytes:
        """The entry of the module's docstring; raises UnicodeEncodeError for a text with half a character in it."""
        header = {"captions": self.captions, "labels": self.labels, "about": self.about}
        if self.columns:
            header["columns"] = self.columns
        header = json.dumps(header, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
        return b"".join((_MAGIC, _LENGTH.pack(len(header)), header, self.image))

    @classmethod
    def unpack(cls, entry: bytes) -> "Example":
        """Inverse of `pack`; raises BadRecord("damaged entry") for anything else."""
        start = SMALLEST
        try:
            if entry[: len(_MAGIC)] != _MAGIC:
                raise ValueError("no magic bytes")
            (length,) = _LENGTH.unpack_from(entry, len(_MAGIC))
            header = json.loads(entry[start : start + length])
            captions = _texts(header["captions"])
            columns = {name: _texts(texts) for name, texts in dict(header.get("columns", {})).items()}
            return cls(entry[start + length :], captions, dict(header["labels"]), dict(header["about"]), columns)
        except (ValueError, TypeError, KeyError, struct.error, RecursionError) as error:
            raise BadRecord("damaged entry") from error

    def record(self, families: Mapping[str, Family]) -> Record:
        """The example as a source gives it, with labels of `families`; raises BadRecord where one does not fit."""
        try:
            labels = {name: _label(self.labels[name], family) for name, family in families.items()}
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise BadRecord("damaged labels") from error
        return Record(self.image, self.captions, labels, self.columns, published_id=number(self.about.get("id")))


def _texts(texts: list[str]) -> tuple[str, ...]:
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise TypeError("a caption is no text")
    return tuple(texts)


def _label(value: int | list[int], family: Family) -> np.ndarray:
    count = len(family.names)
    if family.kind == "class":
        label = np.int32(value)
        fits = label.ndim == 0 and -1 <= label < count
    else:
        label = np.asarray(value, np.uint8)
        fits = label.shape == (count,)
    if not fits:
        raise ValueError(f"label {value} does not fit {count} names")
    return label
