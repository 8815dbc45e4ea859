"""A tar in img2dataset's layout (KEY.jpg, KEY.txt, KEY.json; a parquet file beside the tar) as a shard's plan."""

import dataclasses
import hashlib
import itertools
import json
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import pyarrow

from mdc_jax import files
from mdc_jax.data import images, parquet
from mdc_jax.data.prepare import tar
from mdc_jax.data.prepare.encode import Encoding
from mdc_jax.data.prepare.example import Example
from mdc_jax.data.prepare.lengths import CAPTION
from mdc_jax.data.sources.base import BadRecord
from mdc_jax.data.sources.folder import SUFFIXES
from mdc_jax.data.texts import MAX_CAPTION, has_words

_TXT, _JSON = "txt", "json"
_IMAGES = frozenset(suffix.removeprefix(".") for suffix in SUFFIXES)
_MAX_TEXT = 2**17  # bytes of a caption or of metadata
_CHUNK = 10_000  # keys that are looked up together
_NO_IMAGE, _NO_CAPTION = "no image member", "no caption member"
_NO_FIELD = "no field "
_DOTTED = "no file called KEY.jpg, since a KEY ends at its first dot"
_NAMED = 3  # files of a tar that holds no example
_LISTING = ("key", "status")  # columns of a parquet file beside a tar
_MOST_LISTED = 2**21  # its rows, far above those of any tar: a few bytes can stand for all of them


@dataclasses.dataclass(frozen=True)
class TarPlan:
    """The shard of one tar, see `records.Plan`.

    A column is "caption", the member KEY.txt, or a key of KEY.json; the first one is the default.
    """

    path: pathlib.Path
    split: str = "train"
    encoding: Encoding = dataclasses.field(default_factory=Encoding)
    columns: tuple[str, ...] = (CAPTION,)

    @property
    def name(self) -> str:
        return f"{self.split}-{re.sub(r'[^A-Za-z0-9._-]', '_', self.path.stem)}.arrayrecord"

    @property
    def size(self) -> int:
        """Bytes."""
        return self.path.stat().st_size

    @property
    def inputs(self) -> str:
        """Reads the tar once."""
        parts = [repr((self.path.name, self.encoding, self.columns))]
        for path in (self.path, self._listing):
            if path.exists():
                parts.append(files.sha256(path))
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def examples(self) -> Iterator[Example | BadRecord]:
        """The example or the fault of every key; then the faults of those that the tar should have and has not."""
        for outcome in self._outcomes():
            if isinstance(outcome, BadRecord):
                outcome.name = " ".join((self.path.name, outcome.name)).strip()
            yield outcome

    def _outcomes(self) -> Iterator[Example | BadRecord]:
        missing: dict[str, None] = {}
        kept: dict[str, bool] = {}  # by key
        dotted: dict[str, str] = {}  # keys with a dot, and what they are up to it
        try:
            missing = _listed(self._listing)
        except BadRecord as fault:
            yield fault
        with self.path.open("rb") as file:
            try:
                for chunk in _chunks(tar.samples(file, _IMAGES | {_TXT, _JSON})):
                    rows = self._rows([sample.key for sample in chunk])
                    for sample in chunk:
                        missing.pop(join_key(sample.key), None)
                        if sample.within:
                            dotted[sample.key] = sample.within
                            continue
                        try:
                            if kept.setdefault(sample.key, False):
                                raise BadRecord("key twice")
                            yield self._example(file, sample, rows)
                            kept[sample.key] = True
                        except BadRecord as fault:
                            yield BadRecord(fault.reason, sample.key)
                others = [] if kept or dotted else list(itertools.islice(tar.members(file), _NAMED))
                if others:
                    names = ", ".join(member.name for member in others)
                    yield BadRecord("no file of the tar is called KEY.jpg, KEY.txt or KEY.json", names)
            except tar.BadTar as fault:
                yield fault
        # Beside a.jpg, a.mask.png and a.mask.json are further members of a, which nobody asked for.
        yield from (BadRecord(_DOTTED, key) for key, within in dotted.items() if within not in kept)
        yield from (BadRecord("in the parquet, not in the tar", key) for key in missing)

    def _rows(self, _: Sequence[str]) -> Mapping[str, Any]:
        """What is known of these keys from elsewhere."""
        return {}

    def _example(self, file: BinaryIO, sample: tar.Sample, rows: Mapping[str, Any]) -> Example:
        image = _image(file, sample)
        about = _about(file, sample) | {"key": sample.key}
        texts = self._texts(file, sample, image, about, rows)
        texts = {name: text.strip() for name, text in texts.items()}
        if max(map(len, texts.values())) > MAX_CAPTION:
            raise BadRecord("huge caption")
        if not has_words(texts[self.columns[0]]):
            raise BadRecord("empty caption")
        columns = {name: (text,) if has_words(text) else () for name, text in texts.items()} if len(texts) > 1 else {}
        return Example(self.encoding(image), (texts[self.columns[0]],), {}, about, columns)

    def _texts(
        self, file: BinaryIO, sample: tar.Sample, image: bytes, about: dict[str, Any], rows: Mapping[str, Any]
    ) -> dict[str, str]:
        """The text of every column; keys of the metadata that are columns are taken out of it."""
        del image, rows
        default = self.columns[0]
        if default != CAPTION and default not in about:
            raise BadRecord(f"{_NO_FIELD}{default} in KEY.json")
        texts = {}
        for name in self.columns:
            text = _caption(file, sample) if name == CAPTION else about.pop(name, "")
            texts[name] = text if isinstance(text, str) else ""
        return texts

    @property
    def _listing(self) -> pathlib.Path:
        return self.path.with_suffix(".parquet")


def advice(dropped: Mapping[str, int]) -> str:
    """What may be wrong with tars of which so many examples were dropped, by reason; "" where nothing comes to mind."""
    absent = sum(count for reason, count in dropped.items() if reason.startswith(_NO_FIELD))
    if absent > sum(dropped.values()) / 2:
        return f'Check --columns: every example needs the first one, "{CAPTION}" for KEY.txt or a field of KEY.json'
    fewer, more = sorted(dropped.get(reason, 0) for reason in (_NO_IMAGE, _NO_CAPTION))
    if fewer <= more / 2:
        return ""
    return (
        "About as many keys lack an image as lack a caption. The files of one key must be neighbours, KEY.jpg KEY.txt, "
        "not all images first and all texts after: write the tars anew in the order of names, as with tar --sort=name"
    )


def join_key(key: str) -> str:
    """What tables call an example: keys are file names there, folders within the tar do not belong to them."""
    return key.rpartition("/")[2]


def _chunks(samples: Iterator[tar.Sample]) -> Iterator[list[tar.Sample]]:
    """Runs of samples; those before a fault are given before it is raised."""
    fault = None

    def until_fault() -> Iterator[tar.Sample]:
        nonlocal fault
        try:
            yield from samples
        except tar.BadTar as error:
            fault = error

    rest = until_fault()
    while chunk := list(itertools.islice(rest, _CHUNK)):
        yield chunk
    if fault:
        raise fault


def _listed(path: pathlib.Path) -> dict[str, None]:
    """Keys of the images that img2dataset says it got; raises BadRecord for a file that cannot be read."""
    if not path.exists():
        return {}
    try:
        with parquet.open_file(path, _LISTING) as file:
            if not set(_LISTING) <= set(file.schema_arrow.names):
                return {}  # it is something else
            if file.metadata.num_rows > _MOST_LISTED:
                raise BadRecord("huge parquet")
            keys: dict[str, None] = {}
            for batch in parquet.batches(file, _LISTING):
                rows = zip(*(parquet.values(batch[name]) for name in _LISTING), strict=True)
                # Keys are text there, as the tar has them; numbers, as somebody else's table has, are no such keys.
                keys |= dict.fromkeys(key for key, status in rows if status == "success" and isinstance(key, str))
            return keys
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        if isinstance(error, BadRecord) or (isinstance(error, OSError) and error.errno):  # the disk's fault
            raise
        raise BadRecord("damaged parquet") from error


def _image(file: BinaryIO, sample: tar.Sample) -> bytes:
    found = [member for extension, member in sample.members.items() if extension in _IMAGES]
    if sample.repeated or len(found) > 1:
        raise BadRecord("member twice")
    if not found:
        raise BadRecord(_NO_IMAGE)
    return _read(file, found[0], images.MAX_BYTES, images.TOO_LARGE)


def _caption(file: BinaryIO, sample: tar.Sample) -> str:
    if _TXT not in sample.members:
        raise BadRecord(_NO_CAPTION)
    try:
        return _read(file, sample.members[_TXT], _MAX_TEXT, "huge caption").decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRecord("caption not UTF-8") from error


def _about(file: BinaryIO, sample: tar.Sample) -> dict[str, Any]:
    if _JSON not in sample.members:
        return {}
    try:
        about = json.loads(_read(file, sample.members[_JSON], _MAX_TEXT, "huge metadata"))
    except (ValueError, RecursionError) as error:
        if isinstance(error, BadRecord):
            raise
        raise BadRecord("metadata no JSON") from error
    if not isinstance(about, dict):
        raise BadRecord("metadata no JSON")
    return about


def _read(file: BinaryIO, member: tar.Member, limit: int, too_large: str) -> bytes:
    if not member.regular:
        raise BadRecord("member is a link or sparse")
    if member.size > limit:
        raise BadRecord(too_large)
    return member.read(file)
