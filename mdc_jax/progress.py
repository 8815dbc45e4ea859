"""How far something is that takes a while, on the terminal."""

import datetime
import sys
import time

import jax


class Progress:
    """A line on the terminal for what takes longer than two seconds."""

    def __init__(self, name: str, total: int, done: int = 0) -> None:
        """Begins where `done` of `total` are done already."""
        self._name, self._total, self._first = name, total, done
        self._active = jax.process_index() == 0 and sys.stderr.isatty()
        self._began = time.monotonic()
        self._shown_at = self._began + 1.5

    def report(self, done: int) -> None:
        now = time.monotonic()
        if self._active and now > self._shown_at + 0.5:
            self._shown_at = now
            print(f"\r{self.line(done, now - self._began)}\x1b[K", end="", file=sys.stderr, flush=True)

    def line(self, done: int, seconds: float) -> str:
        """What is done after so many seconds, and how long the rest takes at that rate."""
        done = min(done, self._total)
        left = datetime.timedelta(seconds=round(seconds * (self._total - done) / max(done - self._first, 1)))
        return f"{self._name}: {done:,} of {self._total:,}, {left} left"

    def clear(self) -> None:
        if self._active:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
