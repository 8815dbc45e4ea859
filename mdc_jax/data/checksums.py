"""Whether prepared files still are what was written: the sha256 of each, as its manifest has it.

Training reads at random, so that it can check sizes and ArrayRecord's own checksum of each record alone. A whole shard
in the place of another one has these right.
"""

from collections.abc import Callable, Mapping
from concurrent import futures
from typing import NamedTuple

from etils import epath

from mdc_jax.data.sources.base import Source
from mdc_jax.files import sha256

_THREADS = 8  # files that are read at a time


class Written(NamedTuple):
    """A file as it was written; `bytes` is 0 where the manifest does not say."""

    bytes: int
    sha256: str


def written(source: Source) -> dict[epath.Path, Written]:
    """The files of a source, and of the sources that it is made of, whose manifest has checksums."""
    found = dict(getattr(source, "written", {}))
    for part in getattr(source, "sources", ()):
        found |= written(part)
    return found


def differing(
    files: Mapping[epath.Path, Written], report: Callable[[int], object] = lambda read: None
) -> list[epath.Path]:
    """Those of the files that are not what was written, or not there; `report` is told the bytes of each.

    Raises:
      OSError: a file cannot be read.
    """
    found = []
    with futures.ThreadPoolExecutor(_THREADS) as threads:
        for (path, expected), actual in zip(files.items(), threads.map(_sha256, files), strict=True):
            if actual != expected.sha256:
                found.append(path)
            report(expected.bytes)
    return found


def _sha256(path: epath.Path) -> str:
    return sha256(path) if path.exists() else ""
