"""Files of captions as the authors of a data set publish them: read, or said to be others."""

import json
import os
import pathlib
from collections.abc import Set
from typing import Any


def read_json(path: pathlib.Path, fields: str) -> Any:
    """The content of a JSON file, or of the lines of a .jsonl.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it has other content; names `fields`.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there; it should have {fields}")
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in text.split("\n") if line.strip()]
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise malformed(path, fields, error) from error


def file_in(folder: pathlib.Path, name: str) -> pathlib.Path:
    """The file of a name that stands in a data set; raises ValueError for one that leads out of the folder."""
    path = pathlib.PurePath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{name} leads out of the folder of images")
    return folder / path


def malformed(path: pathlib.Path, fields: str, error: Exception) -> ValueError:
    """The error of a file that lacks some of `fields`."""
    return ValueError(f"{path} is not as its authors publish it, with {fields}: {error!r}")


def check_files(files: Set[pathlib.Path]) -> None:
    """Raises FileNotFoundError where an image is not there: a part of a set is another set."""
    # No device or pipe either: they never end.
    missing = sorted(file for file in files if not os.path.isfile(file))
    if missing:
        raise FileNotFoundError(f"{len(missing)} of its {len(files)} images are not there, as {missing[0]}")
