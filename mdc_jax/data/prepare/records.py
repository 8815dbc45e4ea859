"""The files that `prepare` commands write: ArrayRecord shards and a manifest, the same bytes on every repetition.

One ArrayRecord entry is one example:

    bytes 0-3    "MDC1"
    bytes 4-7    length of the header, unsigned, little endian
    header       JSON: {"captions": [text, ...], "labels": {family: number or list}, "about": {...}}
    the rest     the image as it was encoded (JPEG, PNG ...)

`manifest.json` beside the shards holds what `Manifest` lists. It is written after every shard, so that a second run
keeps the finished ones, and says `complete` when all are there.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tqdm
from array_record.python.array_record_module import ArrayRecordWriter

from mdc_jax.data.sources.base import BadRecord, Family, Record

MANIFEST = "manifest.json"
FORMAT_VERSION = 1

_MAGIC = b"MDC1"
_LENGTH = struct.Struct("<I")
_TEMPORARY = ".unfinished"
# Encoded images do not compress; one record a group makes reading at random as fast as in order.
_WRITER_OPTIONS = "group_size:1,uncompressed"


@dataclasses.dataclass(frozen=True)
class Example:
    """What is stored of one example; `about` is free (file name, size, author ...) and JSON."""

    image: bytes
    captions: tuple[str, ...]
    labels: Mapping[str, int | list[int]] = dataclasses.field(default_factory=dict)
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def pack(self) -> bytes:
        """The entry of the module's docstring."""
        header = {"captions": self.captions, "labels": self.labels, "about": self.about}
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
            captions = tuple(header["captions"])
            if not all(isinstance(caption, str) for caption in captions):
                raise TypeError("a caption is no text")
            return cls(entry[start + length :], captions, dict(header["labels"]), dict(header["about"]))
        except (ValueError, TypeError, KeyError, struct.error, RecursionError) as error:
            raise BadRecord("damaged entry") from error

    def record(self, families: Mapping[str, Family]) -> Record:
        """The example as a source gives it, with labels of `families`; raises BadRecord where one does not fit."""
        try:
            labels = {name: _label(self.labels[name], family) for name, family in families.items()}
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise BadRecord("damaged labels") from error
        return Record(self.image, self.captions, labels)


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


@dataclasses.dataclass
class Manifest:
    """What a prepared folder holds."""

    source: str
    licence: str
    attribution: str
    families: Mapping[str, Family]
    settings: Mapping[str, Any]
    dropped: dict[str, int] = dataclasses.field(default_factory=dict)  # by reason, before any shard was written
    shards: dict[str, Shard] = dataclasses.field(default_factory=dict)  # by file name
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
    def read(cls, directory: pathlib.Path) -> "Manifest":
        """Raises FileNotFoundError, or ValueError where the file is none of ours."""
        path = directory / MANIFEST
        try:
            content = json.loads(path.read_bytes())
            if content["format_version"] != FORMAT_VERSION:
                raise ValueError(f"format_version {content['format_version']}, expected {FORMAT_VERSION}")
            content = {"parts": [], "audit": {}} | content  # later than the first manifests
            fields = {field.name: content[field.name] for field in dataclasses.fields(cls)}
            fields["families"] = {
                name: Family(**family | {"names": tuple(family["names"])})
                for name, family in content["families"].items()
            }
            fields["shards"] = {name: Shard(**shard) for name, shard in content["shards"].items()}
            return cls(**fields)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"{path} is no manifest of prepared records ({error}); remove it and prepare the data again"
            ) from error


def write_shard(path: pathlib.Path, split: str, inputs: str, examples: Iterable[Example | BadRecord]) -> Shard:
    """Writes one file, under another name until it is whole; every BadRecord is counted as dropped."""
    unfinished = path.with_name(path.name + _TEMPORARY)
    writer = ArrayRecordWriter(str(unfinished), _WRITER_OPTIONS)
    records, dropped = 0, {}
    try:
        for example in examples:
            if isinstance(example, BadRecord):
                dropped[example.reason] = dropped.get(example.reason, 0) + 1
            else:
                writer.write(example.pack())
                records += 1
    finally:
        writer.close()
    size, digest = unfinished.stat().st_size, _sha256(unfinished)
    os.replace(unfinished, path)
    return Shard(split, inputs, records, size, digest, dict(sorted(dropped.items())))


@dataclasses.dataclass(frozen=True)
class ShardPlan:
    """A file to be written: `examples` is called only if it is not there yet."""

    name: str
    split: str
    inputs: str
    size: int  # examples that are tried, for the progress bar
    examples: Callable[[], Iterable[Example | BadRecord]]


def write_all(directory: pathlib.Path, manifest: Manifest, plans: Sequence[ShardPlan]) -> Manifest:
    """Writes every shard that is not there yet, then the complete manifest.

    A shard of an earlier run is kept if the manifest of then says that it was made from the same inputs and
    its checksum still holds. Files of earlier runs that are not planned now are removed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    finished = Manifest.read(directory).shards if (directory / MANIFEST).exists() else {}
    manifest = dataclasses.replace(manifest, shards={}, complete=False)
    with tqdm.tqdm(total=sum(plan.size for plan in plans), unit=" examples") as bar:
        for plan in plans:
            shard, path = finished.get(plan.name), directory / plan.name
            if shard and shard.inputs == plan.inputs and path.exists() and _sha256(path) == shard.sha256:
                bar.update(plan.size)
            else:
                shard = write_shard(path, plan.split, plan.inputs, _counted(plan.examples(), bar))
            manifest.shards[plan.name] = shard
            # Later shards of an earlier run stay on record: if this one ends here, the next can still keep them.
            dataclasses.replace(manifest, shards=finished | manifest.shards).write(directory)
    for name in finished.keys() - manifest.shards.keys():
        (directory / name).unlink(missing_ok=True)
    manifest.complete = True
    manifest.write(directory)
    return manifest


def _counted(examples: Iterable[Example | BadRecord], bar: tqdm.tqdm) -> Iterator[Example | BadRecord]:
    for example in examples:
        yield example
        bar.update()


def _replace(path: pathlib.Path, content: bytes) -> None:
    unfinished = path.with_name(path.name + _TEMPORARY)
    unfinished.write_bytes(content)
    os.replace(unfinished, path)


def _sha256(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
