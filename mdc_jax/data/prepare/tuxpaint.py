"""The stamps of Tux Paint (Debian: tuxpaint-stamps-default): about 900 photo cut-outs and drawings with titles."""

import collections
import contextlib
import pathlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator

from mdc_jax.data.prepare.collection import Collection, Picture, words
from mdc_jax.data.sources.folder import image_files

PACKAGE = "tuxpaint-stamps-default"
LICENCE = "GPL-2"
ATTRIBUTION = (
    "Tux Paint stamps, copyright 2002-2022 Bill Kendrick <bill@newbreedsoftware.com> and contributors, "
    "http://sourceforge.net/projects/tuxpaint"
)

_INSTALLED = pathlib.Path("/usr/share/tuxpaint/stamps")
_ALPHABETS = "alphabets"  # pictures of letters


@contextlib.contextmanager
def collect(given: str) -> Iterator[Collection]:
    """The stamps of a folder or .deb that the user names, or "": of the system; temporary files live as long.

    Raises:
      FileNotFoundError: the stamps cannot be had; says what to do.
    """
    with tempfile.TemporaryDirectory(prefix="tuxpaint-") as temporary:
        root, version = _find(given, pathlib.Path(temporary))
        yield _read(root, version)


def _find(given: str, temporary: pathlib.Path) -> tuple[pathlib.Path, str]:
    path = pathlib.Path(given) if given else _INSTALLED
    if path.is_file():
        return _unpack(path, temporary)
    if path.is_dir():
        return path, ""
    if given:
        raise FileNotFoundError(f"--from={given}: there is no such folder or .deb file")
    return _unpack(_download(temporary), temporary)


def _download(directory: pathlib.Path) -> pathlib.Path:
    advice = (
        f"Install the package {PACKAGE} (Fedora, Arch: tuxpaint-stamps), or pass --from=FILE.deb or "
        f"--from=FOLDER with the stamps, as in {_INSTALLED}."
    )
    if not shutil.which("apt-get"):
        raise FileNotFoundError(
            f"Tux Paint's stamps are not installed, and there is no apt-get to fetch them. {advice}"
        )
    print(f"fetching {PACKAGE} (161 MB) by apt-get", flush=True)
    done = subprocess.run(["apt-get", "download", PACKAGE], cwd=directory, capture_output=True, text=True, check=False)
    found = sorted(directory.glob("*.deb"))
    if done.returncode or not found:
        raise FileNotFoundError(
            f"apt-get download {PACKAGE} failed: {done.stderr.strip() or done.stdout.strip()}\n{advice}"
        )
    return found[0]


def _unpack(package: pathlib.Path, temporary: pathlib.Path) -> tuple[pathlib.Path, str]:
    if not shutil.which("dpkg-deb"):
        raise FileNotFoundError(f"{package} needs dpkg-deb to be unpacked; unpack it and pass --from=FOLDER")
    unpacked = temporary / "unpacked"
    try:
        subprocess.run(["dpkg-deb", "-x", package, unpacked], check=True, capture_output=True, text=True)
        version = subprocess.run(
            ["dpkg-deb", "-f", package, "Version"], check=True, capture_output=True, text=True
        ).stdout.strip()
    except subprocess.CalledProcessError as error:
        raise FileNotFoundError(f"{package} cannot be unpacked: {error.stderr.strip()}") from error
    root = unpacked / _INSTALLED.relative_to("/")
    if not root.is_dir():
        raise FileNotFoundError(f"{package} holds no {_INSTALLED}; it should be the package {PACKAGE}")
    return root, version


def _read(root: pathlib.Path, version: str) -> Collection:
    pictures, dropped = [], collections.Counter()
    for file in image_files(root, (".png", ".svg")):
        title = _title((root / file).with_suffix(".txt"))
        if _ALPHABETS in file.parts:
            dropped["letters"] += 1
        elif not title:
            dropped["no caption"] += 1
        else:
            concepts = ("title", words(title)), ("file", _family(file.stem))
            pictures.append(Picture(root / file, file.as_posix(), (title,), concepts))
    if not pictures:
        raise FileNotFoundError(f"{root} holds no stamps: pictures X.png or X.svg, each with its title in X.txt")
    return Collection(f"{PACKAGE} {version}".strip(), LICENCE, ATTRIBUTION, pictures, dict(dropped))


def _title(path: pathlib.Path) -> str:
    """The first line of a stamp's text is its English title, its translations follow."""
    try:
        return path.read_bytes().partition(b"\n")[0].decode().strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return ""


def _family(stem: str) -> str:
    """apple_2 and Apple-3 are variants of one drawing."""
    stem = stem.lower()
    return re.sub(r"[\W\d_]+$", "", stem) or stem
