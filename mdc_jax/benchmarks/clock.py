"""Time by the wall, and by the processor, which other work on the machine changes little."""

import time

import numpy as np


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
