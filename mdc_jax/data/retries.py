"""Reading again after read errors: a file system may come back."""

import threading
from collections.abc import Callable
from typing import TypeVar

from absl import logging

_T = TypeVar("_T")

_AFTER = (0.1, 0.5, 2.0, 10.0, 30.0)  # seconds


class ReadError(OSError):
    """A record could not be read, after several attempts."""


class Retries:
    """Reads that are tried again, by several threads, until one of them has failed for good."""

    def __init__(self) -> None:
        self._over = threading.Event()

    def __call__(self, read: Callable[[int], _T], spec: str, index: int) -> _T:
        """read(index), again after each OSError: a masked row must be the same on every reading.

        Raises:
          ReadError: it failed after the last wait, or while waiting a read of another thread did, or it was closed.
        """
        attempts = 0
        while True:
            try:
                attempts += 1
                return read(index)
            except OSError as error:
                if attempts > len(_AFTER) or self._over.is_set():
                    self._over.set()
                    raise ReadError(
                        f"{spec}: record {index} could not be read in {attempts} attempts: {error}"
                    ) from error
                seconds = _AFTER[attempts - 1]
                logging.warning("%s: record %d: %s; trying again in %s s", spec, index, error, seconds)
                self._over.wait(seconds)

    def close(self) -> None:
        """Nobody waits for what is read any more."""
        self._over.set()
