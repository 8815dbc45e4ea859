"""Files that are whole at every moment, whenever the process is killed: the new one, or what was there before."""

import contextlib
import json
from collections.abc import Iterator
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
    raise ConfigError(f"{path} is damaged: copy it again, or remove it")
