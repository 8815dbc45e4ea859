"""Prints what every thread is doing when no training step finishes for too long.

The timer is a thread of the interpreter's own, which runs also where nothing else can, in a call that hangs and holds
the interpreter's lock.
"""

import faulthandler
import sys
import time

_ARMS = 10  # times that the timer is set anew within its time, at most: steps may be shorter than that takes


class Watchdog:
    """Counts from one finished step to the next; prints once for each stretch without any."""

    def __init__(self, seconds: float) -> None:
        """0 seconds: off; else up to a tenth later. The first step, which compiles, is not counted."""
        self._seconds = seconds
        self._armed: float | None = None  # when the timer was set

    def step_finished(self) -> None:
        now = time.monotonic()
        if self._seconds and (self._armed is None or now - self._armed > self._seconds / _ARMS):
            faulthandler.dump_traceback_later(self._seconds * (1 + 1 / _ARMS), file=sys.__stderr__)
            self._armed = now

    def pause(self) -> None:
        """Stops counting until the next step is finished: for what is no training step."""
        if self._armed is not None:
            faulthandler.cancel_dump_traceback_later()
            self._armed = None

    def close(self) -> None:
        self.pause()
