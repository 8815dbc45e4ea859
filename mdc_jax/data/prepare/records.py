"""The files that `prepare` commands write: ArrayRecord shards and a manifest, the same bytes on every repetition.

One ArrayRecord entry is one example:

    bytes 0-3    "MDC1"
    bytes 4-7    length of the header, unsigned, little endian
    header       JSON: {"captions": [text, ...], "labels": {family: number or list}, "about": {...}}; with several
                 columns of text also "columns": {name: [text, ...]}, "captions" being those of the default one
    the rest     the image as it was encoded (JPEG, PNG ...)

Beside NAME.arrayrecord lies NAME.lengths.npy: u16[records, columns], see `lengths.py`. `manifest.json` holds what
`Manifest` lists, and says `complete` when all shards are there. Until then what is known of a finished shard stands in
a journal, a file per shard, so that a second run keeps it.
"""

import collections
import contextlib
import dataclasses
import hashlib
import io
import json
import os
import pathlib
import shutil
import struct
import sys
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

import numpy as np
import tqdm
from array_record.python.array_record_module import ArrayRecordWriter
from etils import epath

from mdc_jax.data.prepare.lengths import WORDS, Lengths
from mdc_jax.data.sources.base import BadRecord, Family, Record, number

_Path = TypeVar("_Path", pathlib.Path, epath.Path)

MANIFEST = "manifest.json"
FORMAT_VERSION = 1

_MAGIC = b"MDC1"
_LENGTH = struct.Struct("<I")
SUFFIX = ".arrayrecord"
_LENGTHS_SUFFIX = ".lengths.npy"
_TEMPORARY = ".unfinished"
_JOURNAL = ".finished"  # folder of the journal
NAMED_OF_A_REASON = 3  # dropped examples that a shard names, of every reason
_NAMED = 1_000  # ... and all shards together
_SHOWN = 20  # ... and the terminal
_NAME_LENGTH = 120  # characters; names come from the data
_JUDGE_AFTER = 1_000  # examples before the share of dropped ones is judged, except at the end
# Encoded images do not compress; one record a group makes reading at random as fast as in order.
_WRITER_OPTIONS = "group_size:1,uncompressed"


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
        start = len(_MAGIC) + _LENGTH.size
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


@dataclasses.dataclass(frozen=True)
class Shard:
    """A finished file: what it was made from, what it holds, what was left out of it and why."""

    split: str
    inputs: str  # hash of everything that decides its content
    records: int
    bytes: int
    sha256: str
    dropped: Mapping[str, int]
    lengths_sha256: str = ""  # of the file of lengths
    named: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)  # some of the dropped ones, by reason


@dataclasses.dataclass
class Manifest:
    """What a prepared folder holds."""

    source: str
    licence: str
    attribution: str
    families: Mapping[str, Family]
    settings: Mapping[str, Any]
    dropped: dict[str, int] = dataclasses.field(default_factory=dict)  # by reason, before any shard was written
    named: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)  # some of these, by reason
    shards: dict[str, Shard] = dataclasses.field(default_factory=dict)  # by file name
    lengths: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # unit, columns and tokenizer
    parts: list[Mapping[str, Any]] = dataclasses.field(default_factory=list)  # of several sources: source, licence ...
    audit: dict[str, Any] = dataclasses.field(default_factory=dict)  # what was measured of the whole, by name
    complete: bool = False
    format_version: int = FORMAT_VERSION

    def splits(self) -> dict[str, list[str]]:
        """File names of every split, in order."""
        names: dict[str, list[str]] = {}
        for name, shard in sorted(self.shards.items()):
            names.setdefault(shard.split, []).append(name)
        return names

    def counts(self) -> dict[str, int]:
        """Records of every split."""
        return {split: sum(self.shards[name].records for name in names) for split, names in self.splits().items()}

    def all_dropped(self) -> dict[str, int]:
        """Everything left out, by reason."""
        total = dict(self.dropped)
        for shard in self.shards.values():
            for reason, count in shard.dropped.items():
                total[reason] = total.get(reason, 0) + count
        return dict(sorted(total.items()))

    def write(self, directory: pathlib.Path) -> None:
        content = dataclasses.asdict(self) | {"records": self.counts(), "all_dropped": self.all_dropped()}
        text = json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
        _replace(directory / MANIFEST, text.encode())

    @classmethod
    def read(cls, directory: pathlib.Path | epath.Path) -> "Manifest":
        """Raises FileNotFoundError, or ValueError where the file is none of ours."""
        path = directory / MANIFEST
        try:
            content = json.loads(path.read_bytes())
            if content["format_version"] != FORMAT_VERSION:
                raise ValueError(f"format_version {content['format_version']}, expected {FORMAT_VERSION}")
            content = {"lengths": {}, "parts": [], "audit": {}, "named": {}} | content  # later than the first manifests
            fields = {field.name: content[field.name] for field in dataclasses.fields(cls)}
            fields["families"] = {name: _read_family(family) for name, family in content["families"].items()}
            fields["shards"] = {name: _read_shard(name, shard) for name, shard in content["shards"].items()}
            lengths = content["lengths"]
            columns = lengths["columns"] if lengths else [""]
            if not isinstance(lengths, dict) or not columns or not all(isinstance(name, str) for name in columns):
                raise ValueError(f"lengths are {lengths}")
            return cls(**fields)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"{path} is no manifest of prepared records ({error}); remove it and prepare the data again"
            ) from error


def _read_family(content: dict[str, Any]) -> Family:
    """Raises ValueError, KeyError or TypeError for what no family is."""
    family = Family(**content | {"names": tuple(content["names"])})
    if family.kind not in ("class", "presence") or not all(isinstance(name, str) for name in family.names):
        raise ValueError(f"a family of labels is {family}")
    return family


def _read_shard(name: str, content: dict[str, Any]) -> Shard:
    """Raises ValueError or TypeError for what no shard is: manifests may come from strangers.

    Their names lead nowhere else, and no shard has more records than its bytes can hold.
    """
    shard = Shard(**content)
    if pathlib.PurePath(name).name != name or name == "..":
        raise ValueError(f"a shard is called {name}")
    counts = (shard.records, shard.bytes, *shard.dropped.values())
    texts = (shard.split, shard.inputs, shard.sha256, shard.lengths_sha256)
    if not all(type(count) is int and count >= 0 for count in counts) or not all(isinstance(x, str) for x in texts):
        raise ValueError(f"{name} is {shard}")
    if shard.records * (len(_MAGIC) + _LENGTH.size) > shard.bytes:
        raise ValueError(f"{name} has {shard.records} records in {shard.bytes} bytes")
    return shard


class TooManyDropped(RuntimeError):
    """More examples than `max_dropped` could not be used; `dropped` counts them by reason."""

    def __init__(self, message: str, dropped: Mapping[str, int] = MappingProxyType({})) -> None:
        super().__init__(message)
        self.dropped = dropped


class Plan(Protocol):
    """A file to be written. Plans are pickled where shards are written in several processes."""

    name: str  # of the file
    split: str
    size: int  # for the progress bar: examples, or bytes

    @property
    def inputs(self) -> str:
        """Hash of everything that decides the content."""

    def examples(self) -> Iterable[Example | BadRecord]:
        """Is called only if the file is not there yet."""


@dataclasses.dataclass(frozen=True)
class ShardPlan:
    """A plan that knows its inputs."""

    name: str
    split: str
    inputs: str
    size: int  # examples that are tried
    examples: Callable[[], Iterable[Example | BadRecord]]


@dataclasses.dataclass(frozen=True)
class Task:
    """Calling it writes the planned file, unless it is there already; `earlier` is what is known of such a file."""

    directory: pathlib.Path
    plan: Plan
    lengths: Lengths
    earlier: Shard | None

    def __call__(self) -> Shard:
        path = self.directory / self.plan.name
        inputs = hashlib.sha256(repr((FORMAT_VERSION, self.plan.inputs, self.lengths.describe())).encode()).hexdigest()
        shard = self.earlier
        if shard is None or shard.inputs != inputs or not _whole(path, shard):
            shard = write_shard(path, self.plan.split, inputs, self.plan.examples(), self.lengths)
        _replace(self.journal, json.dumps(dataclasses.asdict(shard)).encode())
        return shard

    @property
    def journal(self) -> pathlib.Path:
        """The file that says that this shard is finished."""
        return self.directory / _JOURNAL / f"{self.plan.name}.json"


Runner = Callable[[Sequence[Task]], Generator[tuple[Task, Shard], None, None]]


def in_process(tasks: Sequence[Task]) -> Generator[tuple[Task, Shard], None, None]:
    """Calls the tasks here, one after the other. The other ways are in `runners.py`."""
    for task in tasks:
        yield task, task()


def write_all(
    directory: pathlib.Path,
    manifest: Manifest,
    plans: Sequence[Plan],
    *,
    lengths: Lengths = WORDS,
    max_dropped: float = 1.0,
    unit: str = " examples",
    run: Runner = in_process,
) -> Manifest:
    """Writes every shard that is not there yet, then the complete manifest.

    A shard of an earlier run is kept if it was made from the same inputs and its checksum still holds. Files of earlier
    runs that are not planned now are removed.

    Args:
      directory: where to; is made if need be.
      manifest: what is known of the data beforehand.
      plans: a shard each, with different names.
      lengths: measures captions.
      max_dropped: the share of examples that may be dropped, of those which the plans try.
      unit: of the plans' sizes.
      run: where the work is done.

    Raises:
      TooManyDropped: see there, or nothing is left; what was finished is kept.
      ValueError: no example has a text of one of the columns.
      OSError: something could not be read or written.
    """
    earlier = finished(directory)
    tasks = [Task(directory, plan, lengths, earlier.get(plan.name)) for plan in plans]
    (directory / _JOURNAL).mkdir(parents=True, exist_ok=True)
    manifest = dataclasses.replace(manifest, shards={}, lengths=lengths.describe(), complete=False)
    dataclasses.replace(manifest, shards=earlier).write(directory)
    tally = _Tally(manifest, max_dropped)
    bar = tqdm.tqdm(total=sum(plan.size for plan in plans), unit=unit, unit_scale=unit == "B")
    with bar, contextlib.closing(run(tasks)) as done:
        for task, shard in done:
            manifest.shards[task.plan.name] = shard
            bar.update(task.plan.size)
            tally.add(shard)
            tally.judge(_JUDGE_AFTER)
    tally.finish()
    _check_columns(directory, manifest.shards, lengths.columns)
    for name in earlier.keys() - manifest.shards.keys():
        (directory / name).unlink(missing_ok=True)
        lengths_path(directory / name).unlink(missing_ok=True)
    for path in directory.glob(f"*{_TEMPORARY}"):  # of plans that a killed run had and this one has not
        path.unlink()
    manifest.shards = _bounded(manifest.shards)
    manifest.complete = True
    manifest.write(directory)
    shutil.rmtree(directory / _JOURNAL)
    return manifest


def _check_columns(directory: pathlib.Path, shards: Iterable[str], columns: Sequence[str]) -> None:
    found = np.zeros(len(columns), bool)
    for name in shards:
        found |= np.load(lengths_path(directory / name)).any(0)
    empty = [column for column, some in zip(columns, found, strict=True) if not some]
    if empty:
        raise ValueError(f"no example has a text of column {', '.join(empty)}: check its name, and prepare again")


def write_shard(
    path: pathlib.Path, split: str, inputs: str, examples: Iterable[Example | BadRecord], lengths: Lengths
) -> Shard:
    """Writes one file and its lengths, under other names until they are whole; every BadRecord is counted as dropped.

    Raises:
      OSError: the file cannot be written.
    """
    unfinished = path.with_name(path.name + _TEMPORARY)
    dropped: dict[str, int] = {}
    named: dict[str, list[str]] = {}
    measured = []
    try:
        writer = ArrayRecordWriter(str(unfinished), _WRITER_OPTIONS)
        try:
            for example in examples:
                if isinstance(example, Example):
                    example, entry = _packed(example)
                if isinstance(example, BadRecord):
                    dropped[example.reason] = dropped.get(example.reason, 0) + 1
                    if example.name and len(named.setdefault(example.reason, [])) < NAMED_OF_A_REASON:
                        named[example.reason].append(printable(example.name))
                else:
                    writer.write(entry)
                    measured.append(lengths(example))
        finally:
            writer.close()
    except RuntimeError as error:  # what the writer says to a full disk
        raise OSError(f"{path} cannot be written: {error}") from error
    size, digest = unfinished.stat().st_size, sha256(unfinished)
    sidecar = lengths_path(path)
    _replace(sidecar, _npy(np.array(measured, np.uint16).reshape(len(measured), len(lengths.columns))))
    os.replace(unfinished, path)
    return Shard(split, inputs, len(measured), size, digest, dict(sorted(dropped.items())), sha256(sidecar), named)


def _packed(example: Example) -> tuple[Example | BadRecord, bytes]:
    try:
        return example, example.pack()
    except UnicodeEncodeError:
        return BadRecord("text not UTF-8", str(example.about.get("key") or example.about.get("file", ""))), b""


def finished(directory: pathlib.Path) -> dict[str, Shard]:
    """Shards that earlier runs wrote to a folder, by name: those of its manifest and of its journal."""
    shards = Manifest.read(directory).shards if (directory / MANIFEST).exists() else {}
    for path in (directory / _JOURNAL).glob("*.json"):
        name = path.name.removesuffix(".json")
        with contextlib.suppress(ValueError, TypeError, AttributeError, RecursionError):  # it is written again
            shards[name] = _read_shard(name, json.loads(path.read_bytes()))
    return shards


def _whole(path: pathlib.Path, shard: Shard) -> bool:
    lengths = lengths_path(path)
    return (
        path.exists() and lengths.exists() and sha256(lengths) == shard.lengths_sha256 and sha256(path) == shard.sha256
    )


class _Tally:
    """What was kept and dropped so far; names the first dropped examples on the terminal."""

    def __init__(self, manifest: Manifest, max_dropped: float) -> None:
        self._max_dropped = max_dropped
        self._records = 0
        self._dropped = collections.Counter(manifest.dropped)
        self._first: dict[str, str] = {}  # dropped example of every reason
        self._shown = 0
        self._name(manifest.named)

    def add(self, shard: Shard) -> None:
        self._records += shard.records
        self._dropped.update(shard.dropped)
        self._name(shard.named)

    def _name(self, dropped: Mapping[str, Sequence[str]]) -> None:
        named = [(reason, name) for reason, names in dropped.items() for name in names]
        for reason, name in named:
            self._first.setdefault(reason, name)
        for reason, name in named[: _SHOWN - self._shown]:
            tqdm.tqdm.write(f"dropped {name}: {reason}", file=sys.stderr)
            self._shown += 1

    def judge(self, after: int) -> None:
        """Raises TooManyDropped where that is so, from `after` examples on."""
        dropped = self._dropped.total()
        if self._records + dropped >= after and dropped > self._max_dropped * (self._records + dropped):
            raise TooManyDropped(
                f"{dropped} of {self._records + dropped} examples cannot be used ({self._reasons()}), more than the "
                f"allowed share of {self._max_dropped:g}. What is finished is kept: repair the data, or allow more "
                "(--max_bad_share), and run again.",
                self._dropped,
            )

    def finish(self) -> None:
        """Judges the whole."""
        self.judge(0)
        if not self._records:
            why = self._reasons() or "it holds no example"
            raise TooManyDropped(f"nothing of this data can be used: {why}", self._dropped)

    def _reasons(self) -> str:
        return ", ".join(
            f"{count} x {reason}" + (f", as {self._first[reason]}" if reason in self._first else "")
            for reason, count in self._dropped.most_common()
        )


def _bounded(shards: Mapping[str, Shard]) -> dict[str, Shard]:
    """Shards in the order of their names; from the `_NAMED`th dropped example on none is named."""
    left, bounded = _NAMED, {}
    for name, shard in sorted(shards.items()):
        named = shard.named if left > 0 else {}
        left -= sum(len(names) for names in named.values())
        bounded[name] = dataclasses.replace(shard, named=named)
    return bounded


def printable(name: str) -> str:
    """A name from the data as it may stand in a manifest and on a terminal."""
    return "".join(c if c.isprintable() else "?" for c in name[:_NAME_LENGTH])


def lengths_path(path: _Path) -> _Path:
    """The file of lengths that lies beside a shard."""
    return path.with_name(path.name.removesuffix(SUFFIX) + _LENGTHS_SUFFIX)


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _replace(path: pathlib.Path, content: bytes) -> None:
    unfinished = path.with_name(path.name + _TEMPORARY)
    unfinished.write_bytes(content)
    os.replace(unfinished, path)


def sha256(path: pathlib.Path | epath.Path) -> str:
    """Of a file's bytes; raises OSError where it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
