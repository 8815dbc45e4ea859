"""The safetensors format: a JSON header of names, types, shapes and places, then the bytes. Nothing in it is executed.

https://huggingface.co/docs/safetensors: u64 little-endian, the length of the header; the header; the tensors, C order,
little-endian, without gaps.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from etils import epath

from mdc_jax.config import ConfigError

_TYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(jnp.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}
_LONGEST_HEADER = 100_000_000  # bytes, as the format has it
_ALIGNMENT = 8


def write(path: epath.Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Writes arrays by name, in the order of their names, and texts about them."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    arrays, end = [], 0
    for name in sorted(tensors):
        # A scalar must stay one.
        array = np.asarray(tensors[name], order="C")
        start, end = end, end + array.nbytes
        header[name] = {
            "dtype": _NAMES[array.dtype.newbyteorder("<")],
            "shape": list(array.shape),
            "data_offsets": [start, end],
        }
        arrays.append(array)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in arrays:
            file.write(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())


def read(path: epath.Path) -> dict[str, np.ndarray]:
    """Reads all arrays of a file.

    Raises ConfigError for what is no such file, before memory is taken for more than the file holds.
    """
    size = path.stat().length
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(size - 8, _LONGEST_HEADER):
            raise ConfigError(
                f"{path} is no safetensors file: its header would have {length:,} bytes, the file has {size:,}"
            )
        try:
            places = _places(json.loads(file.read(length)), size - 8 - length)
            tensors = {}
            for name, (dtype, shape, start, end) in places.items():
                file.seek(8 + length + start)
                tensors[name] = np.frombuffer(file.read(end - start), dtype).reshape(shape)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            raise ConfigError(f"{path} is no whole safetensors file: {error!r}; fetch it again") from error
    return tensors


def _places(header: Any, size: int) -> dict[str, tuple[np.dtype, tuple[int, ...], int, int]]:
    """Name → type, shape, start and end in the `size` bytes behind the header; raises ValueError where they cannot be.

    Each byte belongs to one tensor, so that no header can make more of a file than it holds.
    """
    places = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype, shape, (start, end) = _TYPES[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"]
        if not all(type(number) is int and number >= 0 for number in (*shape, start, end)):
            raise ValueError(f"{name} has shape {shape} and bytes {start} to {end}")
        if math.prod(shape) * dtype.itemsize != end - start:
            raise ValueError(f"{name}: {end - start} bytes do not hold {entry['dtype']} of shape {shape}")
        places[name] = (dtype, shape, start, end)
    position = 0
    for name, (_, _, start, end) in sorted(places.items(), key=lambda item: item[1][2:]):
        if start != position:
            raise ValueError(f"{name} starts at byte {start}, expected {position}")
        position = end
    if position != size:
        raise ValueError(f"the tensors have {position} bytes, and {size} are there")
    return places
