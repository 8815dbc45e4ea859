"""One run at a time in a workdir."""

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
def hold(workdir: epath.Path) -> Iterator[None]:
    """Holds the workdir; the system lets go of it when the process ends, however that happens.

    Raises ConfigError where another process holds it, or nothing can be written there. Buckets, and file systems
    without locks, get a warning only.
    """
    if "://" in str(workdir):
        logging.warning("%s: nothing keeps a second run from a bucket; make sure that this is the only one", workdir)
        yield
        return
    with _writable(workdir):
        file = open(workdir / FILE, "a+")  # noqa: SIM115  closed below
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ConfigError(
                f"another run is at work in {workdir}: {file.read().strip()}. Wait for its end, stop it, or use "
                "another --workdir"
            ) from None
        except OSError as error:
            logging.warning("%s cannot be locked (%s); make sure that this is the only run in it", workdir, error)
        with _writable(workdir):  # without a buffer, which closing would try to write again
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield


@contextlib.contextmanager
def _writable(workdir: epath.Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"--workdir={workdir} cannot be written: {error}; free space there, make it writable, or use another"
        ) from error
