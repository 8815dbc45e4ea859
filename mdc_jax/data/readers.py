"""How many records are read at once: one by each thread, or as many as it takes where reading waits, as on a bucket."""

import concurrent.futures
import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from mdc_jax.config import sections

_Key = TypeVar("_Key")
_Read = TypeVar("_Read")

_TIMED = 8  # records that are read with a look at the clock
_TOGETHER = 32  # records that are read before they are worked on
_MOST = 128
_AHEAD = 512  # records that are read at most before they are asked for


def wanted(wait: float, work: float, threads: int) -> int:
    """Records to read at once, so that no thread waits.

    By Little's law: `threads` threads that spend `work` seconds of processor time on a record use up
    threads / work records a second, and each of them takes `wait` seconds to come.
    """
    return max(1, min(_MOST, round(threads * wait / work)))


class Readers:
    """Reads for the threads that make batches; several at once where that is configured, or measured to be of use."""

    def __init__(self, read: Callable[[_Key], _Read], data: sections.Data) -> None:
        """Takes a function that several threads may call; its exceptions come out where its result would."""
        self._read = read
        self._threads = max(1, data.threads)
        self._pool: concurrent.futures.ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self.count = 0  # records read at once; 0: not measured yet
        if data.readers:
            self._start(data.readers)

    def __call__(self, keys: Sequence[_Key]) -> Iterator[list[_Read]]:
        """read(key) of every key, in order, in lists of a few.

        Work on one after the other would throw the one's code and data out of the processor's caches for the other.
        """
        if not self.count and keys:
            yield from self._timed(keys[:_TIMED])
            keys = keys[_TIMED:]
        reads = iter(map(self._read, keys) if self._pool is None else self._pool.map(self._read, keys))
        while some := list(itertools.islice(reads, _TOGETHER)):
            yield some

    def _timed(self, keys: Sequence[_Key]) -> Iterator[list[_Read]]:
        """One list, and a look at the clock: what passes until the next one is asked for is the caller's work."""
        some, waits, begin = [], [], time.thread_time()
        for key in keys:
            wall, cpu = time.perf_counter(), time.thread_time()
            some.append(self._read(key))
            waits.append(time.perf_counter() - wall - (time.thread_time() - cpu))
        yield some
        work = max((time.thread_time() - begin) / len(keys), 1e-6)
        # The least wait: what makes others longer is opening files, and other work on the machine.
        self._start(wanted(min(waits), work, self._threads))

    def _start(self, count: int) -> None:
        with self._lock:
            if not self.count:
                if count > 1:
                    self._pool = concurrent.futures.ThreadPoolExecutor(count, "read")
                self.count = count

    def close(self) -> None:
        """Drops what has not been read yet."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


def read_ahead(read: Callable[[_Key], _Read], keys: Iterable[_Key]) -> Iterator[_Read]:
    """read(key) of every key, in order; where reading waits, as on a bucket, those of later keys are under way.

    What `read` returns should be small: up to `_AHEAD` of it are held.
    """
    keys = iter(keys)
    with contextlib.closing(Readers(read, sections.Data(threads=1))) as readers:  # one thread asks for them
        while some := list(itertools.islice(keys, _AHEAD)):
            for found in readers(some):
                yield from found
