"""Records that a `prepare` command wrote: "array_record:DIR:train", "array_record:DIR/train-*.arrayrecord".

DIR may be a folder of a bucket, gs://...: manifest and names are read by epath, the shards by ArrayRecord itself.
"""

import bisect
import functools
import hashlib
import itertools
import threading
from concurrent import futures
from typing import TypeVar

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader
from etils import epath

from mdc_jax.config import ConfigError
from mdc_jax.data.checksums import Written
from mdc_jax.data.prepare.example import Example
from mdc_jax.data.prepare.manifest import MANIFEST, SUFFIX, Manifest, lengths_path
from mdc_jax.data.sources.base import BadRecord, Record, check_index
from mdc_jax.data.tokenizer import Tokenizer

_READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"  # for reading at random
_WORD = np.dtype("<u2")
_REQUESTS = 32  # at a time, about the lengths of shards
DAMAGE = "Corrupted"  # how the reader's messages tell broken checksums from what it could not read


class ArrayRecordSource:
    """Shards, one after the other; safe to read from several threads."""

    def __init__(self, spec: str, paths: list[epath.Path], manifest: Manifest) -> None:
        self.spec = spec
        self.families = manifest.families
        self.fingerprint = hashlib.sha256(
            "".join(manifest.shards[path.name].sha256 for path in paths).encode()
        ).hexdigest()
        self._paths = paths
        self._manifest = manifest
        self._ends = list(itertools.accumulate(manifest.shards[path.name].records for path in paths))
        self._readers: dict[int, ArrayRecordReader] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Record:
        """Record `index`.

        Raises:
          BadRecord: its bytes are damaged.
          OSError: it could not be read.
          ConfigError: the shard has more or fewer records than the manifest says.
        """
        return self.example(index).record(self.families)

    def example(self, index: int) -> Example:
        """Record `index` as it is stored; raises as the record does."""
        check_index(self, index)
        shard = bisect.bisect_right(self._ends, index)
        first = self._ends[shard - 1] if shard else 0
        try:
            entry = self._reader(shard).read([index - first])[0]
        except RuntimeError as error:
            if DAMAGE in str(error):
                raise BadRecord("damaged shard") from error
            with self._lock:  # a reader that could not open its file never tries again, also where the file came back
                self._readers.pop(shard, None)
            raise OSError(f"{self._paths[shard]}: {error}") from error
        return Example.unpack(entry)

    def length(self, index: int, tokenizer: Tokenizer, column: str = "") -> int:
        """Tokens of the longest caption of record `index`, as they were measured when it was written.

        Args:
          index: of the record.
          tokenizer: whose tokens are meant.
          column: of text; "" is that of the captions.

        Raises:
          ConfigError: they were measured in words or in tokens of another model, or not in this column.
        """
        about = self._manifest.lengths
        if about.get("tokenizer") != tokenizer.hash or column not in ("", *about["columns"]):
            measured = ", ".join(f"{name} {str(value)[:80]}" for name, value in about.items()) or "nothing"
            raise ConfigError(
                f"{self.spec}: batches by length need tokens of tokenizer {tokenizer.hash}"
                f"{f' of column {column}' if column else ''}, its manifest has {measured}. Prepare it again with "
                "--tokenizer=MODEL and name that model in tokenizer.model, or set data.buckets=()"
            )
        return int(self._lengths[index, about["columns"].index(column) if column else 0])

    @property
    def written(self) -> dict[epath.Path, Written]:
        """The shards and the files of their lengths, as the manifest has them."""
        found = {}
        for path in self._paths:
            shard = self._manifest.shards[path.name]
            found[path] = Written(shard.bytes, shard.sha256)
            if shard.lengths_sha256:  # the first manifests have none
                found[lengths_path(path)] = Written(0, shard.lengths_sha256)
        return found

    @functools.cached_property
    def _lengths(self) -> np.ndarray:
        """u16[records, columns]; raises ConfigError for a file that is not what was written."""
        with futures.ThreadPoolExecutor(_REQUESTS) as threads:
            return np.concatenate([*threads.map(self._read_lengths, self._paths)])

    def _read_lengths(self, shard: epath.Path) -> np.ndarray:
        path = lengths_path(shard)
        content = path.read_bytes() if path.exists() else b""
        if hashlib.sha256(content).hexdigest() != self._manifest.shards[shard.name].lengths_sha256:
            raise ConfigError(f"{path} is not there, or not what was written: copy it again, or prepare the data again")
        # The numbers end the file. What its header says of their shape need not be believed.
        rows, columns = self._manifest.shards[shard.name].records, len(self._manifest.lengths.get("columns", ()))
        size = rows * columns * _WORD.itemsize
        if len(content) < size:
            raise ConfigError(f"{path} has not the lengths of {rows:,} records: prepare the data again")
        return np.frombuffer(content, _WORD, offset=len(content) - size).reshape(rows, columns)

    def _reader(self, shard: int) -> ArrayRecordReader:
        """Of a shard; raises ConfigError where that has more or fewer records than the manifest says."""
        with self._lock:
            if shard not in self._readers:
                path = self._paths[shard]
                records = self._manifest.shards[path.name].records
                reader = ArrayRecordReader(str(path), _READER_OPTIONS)
                if reader.ok() and reader.num_records() != records:  # else reading says what is wrong
                    raise ConfigError(
                        f"{path} has {reader.num_records():,} records, the {MANIFEST} beside it says {records:,}: copy "
                        "both again, or run the prepare command again, which rewrites what is damaged"
                    )
                self._readers[shard] = reader
            return self._readers[shard]


_Opened = TypeVar("_Opened", bound=ArrayRecordSource)


def open(rest: str, kind: type[_Opened] = ArrayRecordSource) -> _Opened:
    """Opens "DIR:SPLIT", "DIR" where it holds a single split, or globs of shards, separated by commas.

    A manifest lies beside the shards: it gives their lengths, labels and checksums.

    Raises:
      FileNotFoundError: there is no such folder, manifest or shard.
      ValueError: the split is not there, the folder was not finished, a glob matches several splits, or a shard has not
        the size it was written with.
    """
    directory, split = _directory(rest)
    if directory is not None:
        manifest = _manifest(directory)
        paths = [directory / name for name in _split_names(manifest, directory, split)]
    else:
        matching = {pattern: _matching(epath.Path(pattern)) for pattern in rest.split(",")}
        paths = [*itertools.chain(*matching.values())]
        for pattern, found in matching.items():
            if not found:
                raise FileNotFoundError(f"no file matches {pattern!r}, and it is no prepared folder with a {MANIFEST}")
        if len({*paths}) < len(paths):
            raise ValueError(f"several of the globs {rest!r} match the same shards: each is to be named once")
        directories = {path.parent for path in paths}
        if len(directories) > 1:
            raise ValueError(f"{rest!r} matches shards in {len(directories)} folders; name shards of one")
        manifest = _manifest(directories.pop())
        for pattern, found in matching.items():
            _check_split(pattern, {path.name for path in found}, manifest)
    _check(paths, manifest)
    return kind(f"array_record:{rest}", paths, manifest)


def _matching(pattern: epath.Path) -> list[epath.Path]:
    """The shards that a glob names, without the lengths beside them."""
    paths = pattern.parent.glob(pattern.name) if pattern.parent.exists() else ()
    return sorted(path for path in paths if path.suffix == SUFFIX)


def _check_split(pattern: str, names: set[str], manifest: Manifest) -> None:
    """Raises ValueError for a glob that joins splits, which trains on what is tested; who wants that names both."""
    splits = [split for split, shards in manifest.splits().items() if names & {*shards}]
    if len(splits) > 1:
        raise ValueError(
            f"{pattern} matches shards of the splits {', '.join(splits)}; name one, as in DIR:{splits[0]}, or the "
            "shards of each by a glob of their own, separated by commas"
        )


def _check(paths: list[epath.Path], manifest: Manifest) -> None:
    """Raises ValueError for a shard that is not what the manifest says, FileNotFoundError for one that is gone."""
    for path in paths:
        if path.name not in manifest.shards:
            raise ValueError(f"{path} is not in the {MANIFEST} beside it: it is no finished shard of this data set")
    with futures.ThreadPoolExecutor(_REQUESTS) as threads:  # a bucket takes its time to answer
        lengths = threads.map(lambda path: path.stat().length, paths)
        for path, length in zip(paths, lengths, strict=True):
            if length != manifest.shards[path.name].bytes:
                raise ValueError(
                    f"{path} has {length} bytes, it was written with {manifest.shards[path.name].bytes}: "
                    "copy it again, or run the prepare command again, which rewrites what is damaged"
                )


def _directory(rest: str) -> tuple[epath.Path | None, str]:
    """A prepared folder and a split ("" for the only one); None if `rest` is a glob of shards."""
    if (epath.Path(rest) / MANIFEST).exists():
        return epath.Path(rest), ""
    directory, colon, split = rest.rpartition(":")
    if not colon or rest.endswith(".arrayrecord") or split.startswith("//"):  # the colon of gs://
        return None, ""
    if not (epath.Path(directory) / MANIFEST).exists():
        raise FileNotFoundError(f"{directory} holds no prepared data ({MANIFEST} is missing); run a prepare command")
    return epath.Path(directory), split


def _manifest(directory: epath.Path) -> Manifest:
    manifest = Manifest.read(directory)
    if not manifest.complete:
        raise ValueError(
            f"{directory} was not finished; run its prepare command again, which goes on where it was stopped, or says "
            "that it drops more than --max_bad_share"
        )
    return manifest


def _split_names(manifest: Manifest, directory: epath.Path, split: str) -> list[str]:
    splits = manifest.splits()
    if not split and len(splits) == 1:
        (split,) = splits
    if split not in splits:
        what = f"has no split {split!r}" if split else "has several splits"
        raise ValueError(f"{directory} {what}; name one of {', '.join(splits)}, as in DIR:SPLIT")
    return splits[split]
