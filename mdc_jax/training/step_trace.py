"""A trace of a few training steps, for `xprof` or the profile tab of TensorBoard."""

from typing import Any

import jax
from etils import epath


class StepTrace:
    """Traces the steps of a window into a folder, on every host."""

    def __init__(self, steps: tuple[int, int] | None, folder: epath.Path) -> None:
        self._steps, self._folder, self._running = steps, folder, False

    def before_step(self, done: int, state: Any) -> None:
        """Starts or ends the trace when `done` steps are done, or on their way to `state`."""
        if self._steps and done == self._steps[0]:
            jax.block_until_ready(state)  # or the trace would begin within the step before
            jax.profiler.start_trace(self._folder)
            self._running = True
        elif self._steps and done == self._steps[1]:
            jax.block_until_ready(state)
            self.close()

    def close(self) -> None:
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
