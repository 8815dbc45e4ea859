"""Time by the wall, and by the processor, which other work on the machine changes little."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def fastest(run: Callable[[], Any], repeats: int) -> float:
    """Seconds of the fastest of `repeats` runs, until what it returns is there, after one that compiles."""
    found = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        jax.block_until_ready(run())
        found.append(time.perf_counter() - started)
    return min(found[1:])


class Clock:
    """Seconds since it was made: those of the wall and of all threads of this process."""

    def __init__(self) -> None:
        self._start = self._now()

    def read(self) -> np.ndarray:
        """f64[2]."""
        return self._now() - self._start

    def named(self) -> dict[str, float]:
        """As "seconds" and "processor_seconds"."""
        return dict(zip(("seconds", "processor_seconds"), self.read().tolist(), strict=True))

    @staticmethod
    def _now() -> np.ndarray:
        return np.array([time.perf_counter(), time.process_time()])
