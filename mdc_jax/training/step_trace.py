"""A trace of a few training steps, for `xprof` or the profile tab of TensorBoard."""

from collections.abc import Callable
from typing import Any

import jax
from etils import epath


class StepTrace:
    """Traces the steps of a window into a folder, on every host."""

    def __init__(
        self,
        window: tuple[int, int] | None,
        folder: epath.Path,
        *,
        start: int,
        total: int,
        say: Callable[[str], None],
    ) -> None:
        """Warns where a run that goes from step `start` to `total` has no step in the window."""
        self._window, self._folder, self._say, self._running = window, folder, say, False
        if window and not (start < window[1] and window[0] < total):
            first, last = window
            say(
                f"warning: log.profile={first}:{last} traces nothing: this start goes from step {start:,} to "
                f"{total:,}; give a window within"
            )

    def before_step(self, done: int, state: Any) -> None:
        """Starts or ends the trace when `done` steps are done, or on their way to `state`."""
        if self._window is None or self._running == (self._window[0] <= done < self._window[1]):
            return
        jax.block_until_ready(state)  # or the trace would begin, or end, within the step before
        if self._running:
            self.close()
        else:
            jax.profiler.start_trace(self._folder)
            self._running = True

    def close(self) -> None:
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
            self._say(f"trace of steps (log.profile): {self._folder}")
