"""Numpy's `.npz` of files that nobody vouches for: nothing is unpickled, sizes are checked before memory is taken."""

import math
import zipfile

import numpy as np
from etils import epath

from mdc_jax.config import ConfigError

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
# Weights are nearly random bits: what shrinks by more is made to fill the memory. Small files may.
_LARGEST_RATIO, _SMALL = 4, 2**20


def read(path: epath.Path) -> dict[str, np.ndarray]:
    """Reads all arrays of a file; raises ConfigError for what is no such file, or has other than plain numbers."""
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            total = sum(member.file_size for member in members)
            if total > max(_LARGEST_RATIO * path.stat().length, _SMALL):
                raise ValueError(f"it would unpack to {total:,} bytes")
            return {member.filename.removesuffix(".npy"): _array(archive, member) for member in members}
    except Exception as error:  # zipfile, its ways to compress and numpy's headers have many kinds of them
        raise ConfigError(f"{path} is no npz file of plain arrays: {error}; fetch it again") from error


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"{member.filename} has version {version}")
        shape, columns_first, dtype = _HEADERS[version](file)
        if dtype.hasobject:
            raise ValueError(f"{member.filename} holds Python objects, which could run code")
        if math.prod(shape) * dtype.itemsize != member.file_size - file.tell():
            raise ValueError(f"{member.filename} of {member.file_size:,} bytes cannot hold {dtype} of shape {shape}")
        return np.frombuffer(file.read(), dtype).reshape(shape, order="F" if columns_first else "C")
