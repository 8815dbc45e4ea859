"""Files of captions as the authors of a data set publish them: read, or said to be others."""

import json
import pathlib
from collections.abc import Set
from typing import Any


def read_json(path: pathlib.Path, fields: str) -> Any:
    """The content of a JSON file, or of the lines of a .jsonl; raises ValueError, which names `fields`, for another."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in text.split("\n") if line.strip()]
        return json.loads(text)
    except ValueError as error:
        raise malformed(path, fields, error) from error


def malformed(path: pathlib.Path, fields: str, error: Exception) -> ValueError:
    """The error of a file that lacks some of `fields`."""
    return ValueError(f"{path} is not as its authors publish it, with {fields}: {error!r}")


def check_files(files: Set[pathlib.Path]) -> None:
    """Raises FileNotFoundError where an image is not there: a part of a set is another set."""
    missing = sorted(file for file in files if not file.exists())
    if missing:
        raise FileNotFoundError(f"{len(missing)} of its {len(files)} images are not there, as {missing[0]}")
