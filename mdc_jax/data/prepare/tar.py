"""Reads tars that may be damaged or hostile, in bounded memory: where the members lie, and which make an example.

The standard library's tarfile takes a broken header for the end of the archive, and reads extended headers and maps of
sparse files into memory whatever their size. Nothing is unpacked here: names are labels, never paths.
"""

import dataclasses
import posixpath
from collections.abc import Iterator
from typing import BinaryIO

from mdc_jax.data.sources.base import BadRecord

MAX_HEADER = 2**16  # bytes of an extended header

CUT, DAMAGED, NONE, HEADER = "tar cut short", "damaged tar", "no tar archive", "tar header too large"
UNREAD = frozenset((CUT, DAMAGED, NONE, HEADER))  # reasons of a BadTar, behind which any number of examples may be lost

_BLOCK = 512
_CHUNK = 2**16  # bytes that are read at once behind the end
_MOST_PADDING = 2**20  # bytes; tar pads to 10 KiB unless it is told otherwise
_REGULAR = frozenset((b"0", b"\0", b"7"))
_WITHOUT_DATA = frozenset((b"1", b"2", b"3", b"4", b"5", b"6"))  # links, devices, directories, pipes
_LONG_NAME, _SPARSE = b"L", b"S"
_PAX = frozenset((b"x", b"X"))
_ASIDE = frozenset((b"K", b"g"))  # long targets of links, headers of the whole archive


class BadTar(BadRecord):
    """The archive cannot be read on from here."""


@dataclasses.dataclass(frozen=True)
class Member:
    """A file of an archive: `size` bytes from `start` on. A link, a sparse file ... is not regular."""

    name: str
    start: int
    size: int
    regular: bool

    def read(self, file: BinaryIO) -> bytes:
        file.seek(self.start)
        return file.read(self.size)


@dataclasses.dataclass(frozen=True)
class Sample:
    """Members that follow each other and are named alike up to the first dot, by the rest of their names.

    Where `within` is not "", they are named alike up to the last dot instead, as c.v2.jpg and c.v2.txt, and `within` is
    the key that they belong to, c: whoever named them so may have meant an example of its own.
    """

    key: str
    members: dict[str, Member]
    repeated: bool  # a name came twice; the first one is kept
    within: str = ""


def samples(file: BinaryIO, wanted: frozenset[str]) -> Iterator[Sample]:
    """The examples of an archive in WebDataset's layout, as far as their members end in one of `wanted`.

    Raises:
      BadTar: the rest cannot be read. The example that was begun there is not given.
    """
    runs: dict[bool, Sample] = {}  # the one that is read now, of keys with a dot or without
    for member in members(file):
        key, extension, within = _split(member.name, wanted)
        if extension not in wanted:
            continue
        sample = runs.get(bool(within))
        if sample is None or sample.key != key:
            if sample is not None:
                yield sample
            sample = Sample(key, {}, False, within)
        if extension in sample.members:
            sample = dataclasses.replace(sample, repeated=True)
        else:
            sample.members[extension] = member
        runs[bool(within)] = sample
    yield from runs.values()


def _split(name: str, wanted: frozenset[str]) -> tuple[str, str, str]:
    """Key and extension of a member, and the key up to the first dot where that is shorter; hidden files have none."""
    folder, base = posixpath.split(name)
    stem, _, extension = base.partition(".")
    if not stem:
        return "", "", ""
    first = posixpath.join(folder, stem)
    if extension.lower() in wanted:
        return first, extension.lower(), ""
    stem, _, extension = base.rpartition(".")
    return posixpath.join(folder, stem), extension.lower(), first


def members(file: BinaryIO) -> Iterator[Member]:
    """The members in order, their data left alone; `file` may be moved between two of them.

    Raises:
      BadTar: the archive is cut short, damaged, or none.
    """
    length = file.seek(0, 2)
    position, name, pax = 0, b"", {}
    while True:
        header = _block(file, position)
        if not any(header):
            _check_end(file, position)
            return
        if not _checks(header):
            raise BadTar(DAMAGED if position else NONE)
        kind, start = header[156:157], position + _BLOCK
        size = _decimal(pax[b"size"]) if b"size" in pax else 0 if kind in _WITHOUT_DATA else _number(header[124:136])
        more = kind == _SPARSE and header[482]
        while more:  # blocks of a sparse file's map
            more = _block(file, start)[504]
            start += _BLOCK
        extended = kind == _LONG_NAME or kind in _PAX
        if extended and size > MAX_HEADER:
            raise BadTar(HEADER)
        if start + size > length:
            raise BadTar(CUT)
        position = start + -(-size // _BLOCK) * _BLOCK
        if extended:
            content = file.read(size)
            if kind == _LONG_NAME:
                name = _text(content)
            else:
                pax = _pax(content)
        elif kind not in _ASIDE:
            full = pax.get(b"GNU.sparse.name") or pax.get(b"path") or name or _short_name(header)
            regular = kind in _REGULAR and not any(key.startswith(b"GNU.sparse") for key in pax)
            # Bytes that are no UTF-8 are spelled, so that names stay different.
            yield Member(full.decode(errors="backslashreplace"), start, size, regular)
            name, pax = b"", {}


def _check_end(file: BinaryIO, position: int) -> None:
    """Raises BadTar unless two blocks of zeros are there, and only as many more as writers pad with.

    Zeros may also be a hole that a broken download left, up to the end of the file or before it, or stand between
    archives that were put together: without this, all that follows would be lost in silence.
    """
    rest, zeros = _block(file, position + _BLOCK), 0
    while rest:
        zeros += len(rest)
        if rest.strip(b"\0") or zeros > _MOST_PADDING:
            raise BadTar(DAMAGED)
        rest = file.read(_CHUNK)


def _block(file: BinaryIO, position: int) -> bytes:
    file.seek(position)
    block = file.read(_BLOCK)
    if len(block) < _BLOCK:
        raise BadTar(CUT)
    return block


def _checks(header: bytes) -> bool:
    """Whether the checksum fits, which counts its own field as spaces."""
    try:
        return _number(header[148:156]) == sum(header) - sum(header[148:156]) + 8 * ord(" ")
    except BadTar:
        return False


def _short_name(header: bytes) -> bytes:
    name, prefix = _text(header[:100]), _text(header[345:500])
    return prefix + b"/" + name if prefix and header[257:263] == b"ustar\0" else name


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _number(field: bytes) -> int:
    """A number of a header: octal digits, or binary where the first bit alone is set."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = _text(field).strip() or b"0"
    if not digits.isdigit() or b"8" in digits or b"9" in digits:
        raise BadTar(DAMAGED)
    return int(digits, 8)


def _decimal(field: bytes) -> int:
    if not field.isdigit() or len(field) > 20:
        raise BadTar(DAMAGED)
    return int(field)


def _pax(content: bytes) -> dict[bytes, bytes]:
    """The records "LENGTH KEY=VALUE\\n" of an extended header."""
    records, position = {}, 0
    while position < len(content):
        digits, space, _ = content[position : position + 20].partition(b" ")
        end = position + (_decimal(digits) if space else 0)
        key, equals, value = content[position + len(digits) + 1 : end].partition(b"=")
        if not equals or not value.endswith(b"\n"):
            raise BadTar(DAMAGED)
        records[key] = value[:-1]
        position = end
    return records
