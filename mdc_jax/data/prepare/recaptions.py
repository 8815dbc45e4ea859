"""Captions of Recap-DataComp-1B (arXiv 2406.08478): parquet files whose rows are joined onto tars by key."""

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import pyarrow
import pyarrow.parquet
from pyarrow import types

from mdc_jax.data import parquet
from mdc_jax.data.prepare import tar
from mdc_jax.data.prepare.samples import TarPlan, join_key
from mdc_jax.data.sources.base import BadRecord

COLUMNS = ("re_caption", "org_caption")  # the default one first
NEEDED = ("key", "url", *COLUMNS, "sha256")
VERIFY = ("image", "download")
DIFFERS = "sha256 differs"


@dataclasses.dataclass(frozen=True)
class Captions:
    """Parquet files with the columns NEEDED; the ranges of their keys; a hash of their footers."""

    paths: tuple[pathlib.Path, ...]
    ranges: tuple[tuple[str, str], ...]
    fingerprint: str

    @classmethod
    def open(cls, paths: Sequence[pathlib.Path]) -> "Captions":
        """Reads the footers alone.

        Raises:
          ValueError: a file has not these columns, or other than text in one; or is no parquet.
        """
        ranges, digest = [], hashlib.sha256()
        for path in paths:
            try:
                schema = pyarrow.parquet.read_schema(path)
            except pyarrow.ArrowInvalid as error:
                raise ValueError(f"{path} is no parquet file: {error}") from error
            missing = [name for name in NEEDED if name not in schema.names]
            if missing:
                raise ValueError(f"{path} has no column {', '.join(missing)}; it has {', '.join(schema.names)}")
            kind = schema.field("key").type
            if pyarrow.types.is_primitive(kind):
                raise ValueError(
                    f"{path}: keys are {kind}; they must be text as the names in the tars, with their zeros: 000000012"
                )
            for name in NEEDED:
                if not _is_text(kind := schema.field(name).type):
                    raise ValueError(f"{path}: its column {name} is {kind}; it must be text")
            lows, highs = zip(*_group_ranges(path), strict=True)
            ranges.append((min(lows), max(highs)))
            digest.update(repr((path.name, path.stat().st_size)).encode() + _footer(path))
        return cls(tuple(paths), tuple(ranges), digest.hexdigest())

    def lookup(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The rows of these keys, as far as they are there; of equal keys the first one.

        Reads the row groups whose range of keys fits, a few rows at a time: quick where the rows are sorted by key.

        Raises:
          OSError: a file cannot be read.
        """
        low, high, wanted = min(keys), max(keys), pyarrow.array(keys, pyarrow.string())
        rows: dict[str, dict[str, Any]] = {}
        for path, (first, last) in zip(self.paths, self.ranges, strict=True):
            if not first <= high or not low <= last:
                continue
            groups = [i for i, (a, b) in enumerate(_group_ranges(path)) if a <= high and low <= b]
            try:
                with parquet.open_file(path, NEEDED) as file:
                    for batch in parquet.batches(file, NEEDED, groups):
                        fits = parquet.is_in(batch["key"], wanted)
                        found = [parquet.values(column.filter(fits)) for column in batch.values()]
                        for row in zip(*found, strict=True):
                            rows.setdefault(row[0], dict(zip(NEEDED, row, strict=True)))
            except (pyarrow.ArrowException, OSError, ValueError) as error:
                raise OSError(f"{path} cannot be read: {error}") from error
        return rows


_HIGHEST = chr(0x10FFFF)


@functools.lru_cache(maxsize=256)
def _group_ranges(path: pathlib.Path) -> tuple[tuple[str, str], ...]:
    """The lowest and the highest key of every row group; the widest range where the file does not say."""
    metadata = pyarrow.parquet.read_metadata(path)
    paths = [metadata.schema.column(i).path for i in range(metadata.num_columns)]  # a nested "key" is another one
    column = paths.index("key")
    ranges = []
    for group in range(metadata.num_row_groups):
        statistics = metadata.row_group(group).column(column).statistics
        known = statistics is not None and statistics.has_min_max
        ranges.append((str(statistics.min), str(statistics.max)) if known else ("", _HIGHEST))
    return tuple(ranges) or ((_HIGHEST, ""),)


def _footer(path: pathlib.Path) -> bytes:
    """What a parquet file says of its content at its end: rows, offsets and sizes of columns, ranges."""
    with path.open("rb") as file:
        file.seek(-8, 2)
        file.seek(-8 - int.from_bytes(file.read(4), "little"), 2)
        return file.read()


def _is_text(kind: pyarrow.DataType) -> bool:
    """Texts, or nothing at all."""
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return types.is_string(kind) or types.is_large_string(kind) or types.is_null(kind)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecapPlan(TarPlan):
    """The shard of one tar with captions from elsewhere.

    Every row has the hash of the image as it was downloaded. `verify` "image" holds it against the tar's bytes,
    "download" against the hash that img2dataset wrote down before it made the image smaller.
    """

    columns: tuple[str, ...] = COLUMNS
    captions: Captions
    verify: str = VERIFY[0]

    @property
    def inputs(self) -> str:
        parts = super().inputs, self.captions.fingerprint, self.verify
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def _rows(self, keys: Sequence[str]) -> Mapping[str, Any]:
        return self.captions.lookup([join_key(key) for key in keys])

    def _texts(
        self, file: BinaryIO, sample: tar.Sample, image: bytes, about: dict[str, Any], rows: Mapping[str, Any]
    ) -> dict[str, str]:
        row = rows.get(join_key(sample.key))
        if row is None:
            raise BadRecord("key not among the captions")
        actual = hashlib.sha256(image).hexdigest() if self.verify == "image" else about.get("sha256")
        if not actual or not row["sha256"]:
            raise BadRecord("no sha256 to compare")
        if str(actual).lower() != str(row["sha256"]).lower():  # a stranger's note of it can be anything
            raise BadRecord(DIFFERS)
        about |= {"url": row["url"], "sha256": row["sha256"]}
        return {name: row[name] or "" for name in self.columns}
