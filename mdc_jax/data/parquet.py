"""Rows of Parquet files that nobody vouches for, in memory that follows what is stored, not what it stands for.

A text that many rows have is stored once, and stays one here. A page, which Parquet itself bounds to 2 GiB, is the most
that is unpacked of a column at once.
"""

import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow
import pyarrow.compute
import pyarrow.parquet
from pyarrow import types

_BATCH = 4_096  # rows at a time


def open_file(path: pathlib.Path, columns: Sequence[str]) -> pyarrow.parquet.ParquetFile:
    """Opens a file of which these columns will be read, as far as it has them; raises as pyarrow does."""
    metadata = pyarrow.parquet.read_metadata(path)
    flat = {metadata.schema.column(number).path for number in range(metadata.num_columns)}
    return pyarrow.parquet.ParquetFile(path, metadata=metadata, read_dictionary=sorted(flat & set(columns)))


def batches(
    file: pyarrow.parquet.ParquetFile, columns: Sequence[str], row_groups: Sequence[int] | None = None
) -> Iterator[dict[str, pyarrow.Array]]:
    """Some rows at a time, by column.

    Raises:
      ValueError: a column holds neither texts nor numbers, or there are several of its name.
    """
    for name in columns:
        if (count := file.schema_arrow.names.count(name)) != 1:
            raise ValueError(f"it has {count} columns {name}, not one")
        kind = file.schema_arrow.field(name).type
        kind = kind.value_type if types.is_dictionary(kind) else kind
        if not any(fits(kind) for fits in (types.is_string, types.is_large_string, types.is_primitive, types.is_null)):
            raise ValueError(f"its column {name} is {kind}, neither text nor numbers")
    for batch in file.iter_batches(_BATCH, row_groups=row_groups, columns=list(columns), use_threads=False):
        yield {name: batch[name] for name in columns}


def values(column: pyarrow.Array) -> list[Any]:
    """What a column holds, None where nothing; equal texts are one object."""
    if not isinstance(column, pyarrow.DictionaryArray):
        return column.to_pylist()
    used = column.indices.unique().drop_null()
    known = dict(zip(used.to_pylist(), column.dictionary.take(used).to_pylist(), strict=True))
    return [known.get(index) for index in column.indices.to_pylist()]


def is_in(column: pyarrow.Array, wanted: pyarrow.Array) -> pyarrow.BooleanArray:
    """Which rows of a column of texts hold one of the wanted ones; null where there is none."""
    if not isinstance(column, pyarrow.DictionaryArray):
        return pyarrow.compute.is_in(column.cast(wanted.type), value_set=wanted)
    return pyarrow.compute.is_in(column.dictionary.cast(wanted.type), value_set=wanted).take(column.indices)
