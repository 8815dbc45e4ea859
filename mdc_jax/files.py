"""Files that are whole at every moment, whenever the process is killed: the new one, or what was there before."""

import contextlib
from collections.abc import Iterator

from etils import epath

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
