"""A plain folder of images with captions: "folder:DIR".

Captions of an image, the first of these that is there:

    captions.csv     columns file, caption; several rows of a file are several captions
    captions.jsonl   the same, an object a line
    captions.parquet the same
    NAME.txt         beside NAME.jpg; every line is a caption

An image that a table names and that is not there has a place in the order too, as a damaged one has. Where the images
lie in subfolders, the first of them is the label of family "folder".
"""

import csv
import hashlib
import io
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from mdc_jax.data import images
from mdc_jax.data.sources.base import BadRecord, Family, Record, check_index
from mdc_jax.data.texts import readable
from mdc_jax.data.tokenizer import Tokenizer

_READ = (".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
# Images too, which are counted as of an unknown format: nobody is to lose them without a word.
_NOT_READ = (".avif", ".heic", ".heif", ".jp2", ".jxl")
SUFFIXES = frozenset((*_READ, *_NOT_READ))
_MOST_CAPTIONS = 1_000  # of an image
_MACOS_FOLDER, _MACOS_FILE = "__MACOSX", "._"
_SHOWN = 200  # characters of what is wrong
FAMILY = "folder"
TABLES = ("captions.csv", "captions.jsonl", "captions.parquet")


class FolderSource:
    """Images in the order of their names; captions are read when the source is opened."""

    def __init__(self, root: pathlib.Path) -> None:
        self.spec = f"folder:{root}"
        self._root = root
        found = image_files(root)
        if not found:
            raise FileNotFoundError(f"{root} has no images ({', '.join(_READ)})")
        self._captions = read_captions(root, found)
        self._files = sorted(self._captions)
        names = tuple(sorted({readable(file.parts[0]) for file in found if len(file.parts) > 1}))
        self.families: Mapping[str, Family] = {FAMILY: Family("class", names)} if len(names) > 1 else {}
        # Those that only the table names, and links to nowhere.
        self._missing = frozenset(self._captions.keys() - {file for file in found if (root / file).exists()})
        sizes = {file: (root / file).stat().st_size for file in self._files if file not in self._missing}
        content = ((str(file), sizes.get(file), self._captions[file]) for file in self._files)
        self.fingerprint = hashlib.sha256(repr(list(content)).encode(errors="surrogatepass")).hexdigest()

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Record:
        """Record `index`; raises IndexError as `check_index`, OSError where its file cannot be read, BadRecord where
        there is none."""
        check_index(self, index)
        file = self._files[index]
        if file in self._missing:
            raise BadRecord("no image file")
        captions = self.captions(index)
        labels = {}
        if self.families:
            names = self.families[FAMILY].names
            labels[FAMILY] = np.int32(names.index(readable(file.parts[0])) if len(file.parts) > 1 else -1)
        return Record(images.read(self._root / file), captions, labels)

    def captions(self, index: int) -> tuple[str, ...]:
        """The captions of record `index`, whose file is not read; raises BadRecord where they cannot be."""
        captions = self._captions[self._files[index]]
        if captions is None:
            raise BadRecord("captions not UTF-8")
        return captions

    def length(self, index: int, tokenizer: Tokenizer) -> int:
        """Tokens of the longest caption of record `index`; raises BadRecord as `captions` does."""
        return tokenizer.longest(self.captions(index))


def open(rest: str) -> FolderSource:
    """Opens a folder; raises FileNotFoundError where there are no images, ValueError for a bad table of captions."""
    root = pathlib.Path(rest)
    if not rest:
        raise ValueError("name the folder, as in folder:photos/train")
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {rest!r}")
    return FolderSource(root)


def image_files(
    root: pathlib.Path,
    suffixes: Iterable[str] = SUFFIXES,
    *,
    links: bool = True,
    on_error: Callable[[OSError], None] | None = None,
) -> list[pathlib.Path]:
    """Paths of all images below `root`, relative to it, in the order of their names; none where it is no folder.

    What macOS adds to archives, the folder __MACOSX and a file ._NAME for NAME, is no image, whatever it is called.

    Args:
      root: the folder.
      suffixes: of images.
      links: whether links to folders are followed, unless they lead back to a folder that they lie in.
      on_error: is told of each folder that cannot be read, and so has no images here; None: that is an error.

    Raises:
      OSError: a folder cannot be read.
    """
    wanted = frozenset(suffixes)

    def entries(folder: pathlib.Path) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as found:
                return list(found)
        except OSError as error:
            if on_error is None:
                raise
            on_error(error)
            return []

    def below(inside: pathlib.Path, above: frozenset[str]) -> Iterator[pathlib.Path]:
        """The images in a folder of `root` and below; `above` are the real paths of the folders around it."""
        real = os.path.realpath(root / inside)
        if real in above:
            return
        for entry in entries(root / inside):
            linked = entry.is_symlink() and os.path.isdir(entry)
            if linked or entry.is_dir(follow_symlinks=False):
                if entry.name != _MACOS_FOLDER and (links or not linked):
                    yield from below(inside / entry.name, above | {real})
            elif os.path.splitext(entry.name)[1].lower() in wanted and not entry.name.startswith(_MACOS_FILE):
                yield inside / entry.name

    return sorted(below(pathlib.Path(), frozenset())) if root.is_dir() else []


def read_captions(
    root: pathlib.Path,
    files: Iterable[pathlib.Path],
    column: str = "caption",
    suffixes: Iterable[str] = SUFFIXES,
) -> dict[pathlib.Path, tuple[str, ...] | None]:
    """Captions of every file, and behind these of the images that a table names and that are not there.

    () where there are none, None where they are not UTF-8.

    Args:
      root: the folder.
      files: images below it, relative to it.
      column: of the table; text files beside the images have but "caption".
      suffixes: of images.

    Raises:
      ValueError: a table of captions is malformed, or names what can be no image below `root`.
    """
    files, wanted = list(files), frozenset(suffixes)
    for name, parse in zip(TABLES, (_csv_rows, _jsonl_rows, _parquet_rows), strict=True):
        if (root / name).exists():
            return _from_table(root / name, parse, files, column, wanted)
    if column != "caption":
        raise ValueError(f"{root} has no table of captions, and so no column {column}; add captions.csv")
    return {file: _from_sidecar(root / file) for file in files}


def _from_table(
    path: pathlib.Path,
    parse: Callable[[pathlib.Path, str], Iterable[tuple[str, str]]],
    files: Iterable[pathlib.Path],
    column: str,
    suffixes: frozenset[str],
) -> dict[pathlib.Path, tuple[str, ...]]:
    captions: dict[pathlib.Path, list[str]] = {file: [] for file in files}
    try:
        for file, caption in parse(path, column):
            name = pathlib.Path(file)
            if name not in captions:
                _check_name(name, path, suffixes)
                captions[name] = []
            captions[name].append(caption)
            if len(captions[name]) > _MOST_CAPTIONS:  # a few bytes of Parquet can stand for any number of rows
                raise ValueError(f"{file} has more than {_MOST_CAPTIONS:,} captions")
    except _BadName:
        raise
    except (ValueError, TypeError, RecursionError, csv.Error) as error:
        raise ValueError(f"{path} is no table of captions with file and {column}: {error}") from error
    return {file: tuple(texts) for file, texts in captions.items()}


class _BadName(ValueError):
    """A table names what can be no image below its folder."""


def _check_name(name: pathlib.Path, table: pathlib.Path, suffixes: frozenset[str]) -> None:
    """Lets the name of an image pass that may lie below the table's folder; raises _BadName."""
    is_image = name.suffix.lower() in suffixes
    if is_image and not name.is_absolute() and ".." not in name.parts and can_be(name):
        return
    why = f"is not below {table.parent} as it is written: write it as from there, as in cats/1.jpg"
    if not is_image:
        # Any text may stand where a name should: `os.path.exists` knows that nothing can have it.
        there = "is there, but is not read as an image" if os.path.exists(table.parent / name) else "is no image's name"
        why = f"{there}; these end in {', '.join(sorted(suffixes - {*_NOT_READ}))}"
    raise _BadName(f"{table} names {str(name)[:_SHOWN]}, which {why}")


def can_be(name: pathlib.PurePath) -> bool:
    """Whether a file can have the name: there is no zero in it, and no half of a character."""
    try:
        return b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        return False


def _csv_rows(path: pathlib.Path, column: str) -> Iterable[tuple[str, str]]:
    # Strict, since a quote that is not closed would take in all rows behind it.
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{error}: save it as UTF-8") from error
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    names = rows.fieldnames or ()
    if not names:
        raise ValueError("its first line is empty, which names the columns" if text.strip() else "it is empty")
    if any(names.count(name) != 1 for name in ("file", column)):
        raise ValueError(f"its columns are {', '.join(names)}: it needs each of these two once")
    try:
        for row in rows:
            if None in row:  # a comma within a caption would cut it short
                many = f"line {rows.line_num} has more than {len(row) - 1} fields"
                raise ValueError(f"{many}: put captions in double quotes")
            if not row["file"]:
                raise ValueError(f"line {rows.line_num} names no file")
            yield row["file"], row[column] or ""
    except csv.Error as error:
        raise ValueError(
            f"behind line {rows.line_num}: {error}: close every quote, and double those within one"
        ) from error


def _jsonl_rows(path: pathlib.Path, column: str) -> Iterable[tuple[str, str]]:
    for number, line in enumerate(_lines(path), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"line {number} is no JSON object, but {line[:_SHOWN]!r}") from error
            file, caption = (row.get("file"), row.get(column)) if isinstance(row, dict) else (None, None)
            missing = isinstance(row, dict) and column in row and caption is None
            if not isinstance(file, str) or not (missing or isinstance(caption, str)):
                raise ValueError(
                    f"line {number} is {line[:_SHOWN]!r}: write two texts, and a line for each of several captions"
                )
            yield file, caption or ""


def _parquet_rows(path: pathlib.Path, column: str) -> Iterable[tuple[str, str]]:
    from mdc_jax.data import parquet  # pyarrow costs time where it is not needed

    with parquet.open_file(path, ["file", column]) as table:
        if not {"file", column} <= set(table.schema_arrow.names):
            raise ValueError(f"its columns are {table.schema_arrow.names}")
        for batch in parquet.batches(table, ["file", column]):
            files, captions = (parquet.values(batch[name]) for name in ("file", column))
            for file, caption in zip(files, captions, strict=True):
                if file is None:
                    raise ValueError("a row names no file")
                missing = caption is None or caption != caption  # NaN, as pandas writes what is missing
                yield str(file), "" if missing else str(caption)


def _from_sidecar(image: pathlib.Path) -> tuple[str, ...] | None:
    for suffix in (".txt", ".TXT"):
        try:
            return tuple(line.strip() for line in _lines(image.with_suffix(suffix)) if line.strip())
        except FileNotFoundError:
            continue
        except UnicodeDecodeError:
            return None
    return ()


def _lines(path: pathlib.Path) -> io.StringIO:
    """Ended by line feeds and carriage returns alone: `str.splitlines` knows others, which captions may hold."""
    return io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=None)
