"""One process at a time in a folder."""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator

from absl import logging
from etils import epath

from mdc_jax.config import ConfigError

FILE = "lock"


@contextlib.contextmanager
def hold(folder: epath.Path, flag: str = "workdir", name: str = FILE) -> Iterator[None]:
    """Holds a folder, which `flag` names; the system lets go of it when the process ends, however that happens.

    What is locked is the file `name` in it.

    Raises ConfigError where another process holds it, or nothing can be written there. Buckets, and file systems
    without locks, get a warning only.
    """
    if "://" in str(folder):
        logging.warning("%s: nothing keeps a second run from a bucket; make sure that this is the only one", folder)
        yield
        return
    with _writable(folder, flag):
        file = open(folder / name, "a+")  # noqa: SIM115  closed below
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ConfigError(
                f"another run is at work in {folder}: {file.read().strip()}. Wait for its end, stop it, or use "
                f"another --{flag}"
            ) from None
        except OSError as error:
            logging.warning("%s cannot be locked (%s); make sure that this is the only run in it", folder, error)
        with _writable(folder, flag):  # without a buffer, which closing would try to write again
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield


def check_free(folder: epath.Path) -> None:
    """Raises ConfigError where another process holds a folder, in which nothing is written."""
    if "://" in str(folder) or not (folder / FILE).exists():
        return
    with open(folder / FILE) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"a run is at work in {folder}: {file.read().strip()}. Wait for its end, or stop it"
            ) from None
        except OSError:  # no locks here, of which `hold` warns
            return


@contextlib.contextmanager
def _writable(folder: epath.Path, flag: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"--{flag}={folder} cannot be written: {error}; free space there, make it writable, or use another"
        ) from error
