"""Image files with captions from elsewhere, as plans of shards."""

import dataclasses
import errno
import hashlib
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mdc_jax.data import images
from mdc_jax.data.prepare import collection
from mdc_jax.data.prepare.encode import Encoding
from mdc_jax.data.prepare.example import Example
from mdc_jax.data.sources.base import BadRecord
from mdc_jax.data.texts import MAX_CAPTION, has_words

SHARD_SIZE = 4_096  # images
_NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


@dataclasses.dataclass(frozen=True)
class Entry:
    """An image file; `captions` are those of the first of `columns` where there are several.

    `about` says at least which "file" it is, as people know it.
    """

    path: pathlib.Path
    captions: tuple[str, ...]
    labels: Mapping[str, int]
    about: Mapping[str, Any]
    columns: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class FilesPlan:
    """See `records.Plan`."""

    name: str
    split: str
    entries: tuple[Entry, ...]
    encoding: Encoding

    @property
    def size(self) -> int:
        return len(self.entries)

    @property
    def inputs(self) -> str:
        """Reads every file once."""
        digest = hashlib.sha256(repr(self.encoding).encode())
        for entry in self.entries:
            known = dataclasses.replace(entry, path=pathlib.Path(entry.path.name))
            digest.update(repr(known).encode(errors="surrogatepass"))
            if os.path.isfile(entry.path):  # others are not read: a pipe would be waited for
                with entry.path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    def examples(self) -> Iterator[Example | BadRecord]:
        for entry in self.entries:
            try:
                yield self._example(entry)
            except BadRecord as fault:
                yield BadRecord(fault.reason, entry.about["file"])

    def _example(self, entry: Entry) -> Example:
        texts = [entry.captions, *entry.columns.values()]
        captions, *others = (tuple(text.strip() for text in column if has_words(text)) for column in texts)
        if not captions:
            raise BadRecord("empty caption" if entry.captions else "no caption")
        if max(len(text) for column in (captions, *others) for text in column) > MAX_CAPTION:
            raise BadRecord("huge caption")
        try:
            image = self._image(entry.path)
        except OSError as error:
            if error.errno not in _NO_FILE:
                raise
            raise BadRecord("no image file") from error
        return Example(image, captions, entry.labels, entry.about, dict(zip(entry.columns, others, strict=True)))

    def _image(self, path: pathlib.Path) -> bytes:
        if path.suffix.lower() == ".svg":
            images.check_file(path)
            return collection.render(path)
        return self.encoding(images.read(path))


def plans(split: str, entries: Sequence[Entry], encoding: Encoding) -> list[FilesPlan]:
    """The shards of a split."""
    parts = [tuple(entries[start : start + SHARD_SIZE]) for start in range(0, len(entries), SHARD_SIZE)]
    return [
        FilesPlan(f"{split}-{number:05d}-of-{len(parts):05d}.arrayrecord", split, part, encoding)
        for number, part in enumerate(parts)
    ]
