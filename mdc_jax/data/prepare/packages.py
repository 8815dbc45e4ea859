"""Packages of the system's and of node's package manager, fetched and read without being installed."""

import gzip
import io
import pathlib
import shutil
import subprocess
import zlib
from collections.abc import Iterable, Mapping, Sequence

from mdc_jax.data.prepare import tar

_MAX_UNPACKED = 2**28  # bytes of a .tgz; those of emoji have up to 50 MB


def find_debian(
    packages: Mapping[str, str], installed: pathlib.Path, given: str, temporary: pathlib.Path, megabytes: int
) -> tuple[pathlib.Path, str]:
    """Where the files of Debian packages are, and their version ("" where it is not known).

    Args:
      packages: their names, and the folder within `installed` that each of them brings.
      installed: where they lie once they are installed.
      given: a .deb file, a folder of them or a folder like `installed`, that the user names; "": the installed
        packages, or else those that apt-get fetches.
      temporary: where packages may be unpacked.
      megabytes: size of the download.

    Raises:
      FileNotFoundError: they cannot be had; says what to do.
    """
    path = pathlib.Path(given) if given else installed
    if given and not path.exists():
        raise FileNotFoundError(f"--from={given}: there is no such folder or .deb file")
    if path.is_file():
        return _unpack([path], packages, installed, temporary)
    files = [file for package in packages for file in sorted(path.glob(f"{package}_*.deb"))]
    if not files and (given or all((path / part).is_dir() for part in packages.values())):
        return path, ""
    files = files or _download(packages, installed, temporary, megabytes)
    return _unpack(files, packages, installed, temporary)


def _download(
    packages: Iterable[str], installed: pathlib.Path, directory: pathlib.Path, megabytes: int
) -> list[pathlib.Path]:
    names = " ".join(packages)
    advice = (
        f"Install the package {names} (other systems than Debian may call it otherwise), or pass --from=FILE.deb or "
        f"--from=FOLDER, which holds .deb files or what is in {installed}."
    )
    if not shutil.which("apt-get"):
        raise FileNotFoundError(f"{names} is not installed, and there is no apt-get to fetch it. {advice}")
    print(f"fetching {names} ({megabytes} MB) by apt-get", flush=True)
    done = _run(["apt-get", "download", *packages], directory)
    found = sorted(directory.glob("*.deb"))
    if done.returncode or not found:
        raise FileNotFoundError(
            f"apt-get download {names} failed: {done.stderr.strip() or done.stdout.strip()}\n{advice}"
        )
    return found


def _unpack(
    files: Sequence[pathlib.Path], packages: Iterable[str], installed: pathlib.Path, temporary: pathlib.Path
) -> tuple[pathlib.Path, str]:
    if not shutil.which("dpkg-deb"):
        raise FileNotFoundError(f"{files[0]} needs dpkg-deb to be unpacked; unpack it and pass --from=FOLDER")
    unpacked, version = temporary / "unpacked", ""
    for file in files:
        for command in (["dpkg-deb", "-x", str(file), str(unpacked)], ["dpkg-deb", "-f", str(file), "Version"]):
            done = _run(command, temporary)
            if done.returncode:
                raise FileNotFoundError(f"{file} cannot be unpacked: {done.stderr.strip()}")
        version = done.stdout.strip()
    root = unpacked / installed.relative_to("/")
    if not root.is_dir():
        raise FileNotFoundError(f"{files[0]} holds no {installed}; it should be the package {' '.join(packages)}")
    return root, version


def find_node(packages: Sequence[str], given: str, temporary: pathlib.Path, megabytes: int) -> pathlib.Path:
    """A folder of node packages, for `read_node`.

    Args:
      packages: "NAME@VERSION" of each.
      given: a folder of .tgz files as `npm pack` writes them, or a node_modules, that the user names; "": those that
        npm fetches.
      temporary: where they may be stored.

    Raises:
      FileNotFoundError: they cannot be had; says what to do.
    """
    if given:
        if not pathlib.Path(given).is_dir():
            raise FileNotFoundError(f"--from={given}: there is no such folder")
        return pathlib.Path(given)
    names = " ".join(packages)
    advice = f"Fetch them elsewhere with `npm pack {names}`, and pass --from=FOLDER with the .tgz files."
    if not shutil.which("npm"):
        raise FileNotFoundError(f"there is no npm to fetch {names}. {advice}")
    print(f"fetching {names} ({megabytes} MB) by npm", flush=True)
    done = _run(["npm", "pack", "--silent", *packages], temporary)
    if done.returncode:
        raise FileNotFoundError(f"npm pack {names} failed: {done.stderr.strip() or done.stdout.strip()}\n{advice}")
    return temporary


def read_node(directory: pathlib.Path, package: str, file: str) -> bytes:
    """A file of a package in a folder that `find_node` gave.

    Raises:
      FileNotFoundError: the package or the file is not there, or the archive is damaged.
    """
    unpacked = directory / package / file
    if unpacked.is_file():
        return unpacked.read_bytes()
    archives = sorted(directory.glob(package.lstrip("@").replace("/", "-") + "-[0-9]*.tgz"))
    if not archives:
        raise FileNotFoundError(f"{directory} has neither {package}/{file} nor the package as a .tgz of `npm pack`")
    try:
        return _member(archives[-1], f"package/{file}")
    except (OSError, EOFError, zlib.error, tar.BadTar, KeyError) as error:
        raise FileNotFoundError(
            f"{archives[-1]} has no readable {file} ({error}); fetch it again with `npm pack`"
        ) from error


def _member(archive: pathlib.Path, name: str) -> bytes:
    with gzip.open(archive) as packed:
        unpacked = io.BytesIO(packed.read(_MAX_UNPACKED + 1))
    if len(unpacked.getbuffer()) > _MAX_UNPACKED:
        raise OSError(f"it unpacks to more than {_MAX_UNPACKED:,} bytes")
    for member in tar.members(unpacked):
        if member.name == name and member.regular:
            return member.read(unpacked)
    raise KeyError(name)


def _run(command: Sequence[str], directory: pathlib.Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
