"""Files that are whole at every moment, whenever the process is killed: the new one, or what was there before."""

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from etils import epath

from mdc_jax.config import ConfigError

UNFINISHED = ".unfinished"  # at the end of a name, until the file is whole


@contextlib.contextmanager
def whole(path: epath.PathLike) -> Iterator[epath.Path]:
    """The name under which to write a file; it takes the place of `path` at the end of the block, unless that fails."""
    path = epath.Path(path)
    unfinished = path.with_name(path.name + UNFINISHED)
    yield unfinished
    unfinished.replace(path)


def write(path: epath.PathLike, content: str | bytes) -> None:
    """Writes a file whole; text as UTF-8."""
    with whole(path) as unfinished:
        unfinished.write_bytes(content.encode() if isinstance(content, str) else content)


def sha256(path: epath.PathLike) -> str:
    """Of a file's bytes, in hexadecimal; raises OSError where it cannot be read."""
    with epath.Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: epath.PathLike, *, missing_if_damaged: bool = False) -> dict[str, Any] | None:
    """The object that a JSON file holds; None where there is no file.

    Where it holds none: None too with `missing_if_damaged`, else raises ConfigError.
    """
    try:
        found = json.loads(epath.Path(path).read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        found = None
    if isinstance(found, dict):
        return found
    if missing_if_damaged:
        return None
    raise damaged(path)


def write_json_lines(path: epath.PathLike, lines: Iterable[Mapping[str, Any]]) -> None:
    """Writes a line of JSON for each object, the file whole."""
    with whole(path) as unfinished, unfinished.open("w") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def read_json_lines(path: epath.PathLike) -> list[dict[str, Any]]:
    """The objects of a file that has one a line, none where there is no file; raises ConfigError for a damaged one."""
    path = epath.Path(path)
    try:
        found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    except ValueError:
        raise damaged(path) from None
    if not all(isinstance(line, dict) for line in found):
        raise damaged(path)
    return found


def damaged(path: epath.PathLike) -> ConfigError:
    """What to raise for a file that does not hold what was written."""
    return ConfigError(f"{path} is damaged: copy it again, or remove it")
