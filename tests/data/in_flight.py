"""How many threads are at it at the same time."""

import threading
from types import TracebackType


class InFlight:
    """`with in_flight: ...` counts those that are within; `most` there were."""

    def __init__(self) -> None:
        self.most = self._now = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._now -= 1
