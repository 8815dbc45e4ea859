"""Files that are either whole or not there, whenever the process is killed."""

from etils import epath


def write(path: epath.Path, content: str | bytes) -> None:
    """Writes a file under another name first, and moves it into its place."""
    temporary = path.with_name(f"{path.name}.tmp")
    if isinstance(content, bytes):
        temporary.write_bytes(content)
    else:
        temporary.write_text(content)
    temporary.replace(path)
