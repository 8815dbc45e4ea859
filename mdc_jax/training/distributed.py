"""Processes: starting them, agreeing, and being asked to stop."""

import signal
from types import FrameType

import jax
import numpy as np
from jax.experimental import multihost_utils

from mdc_jax.config import ConfigError


def initialize(coordinator: str, num_processes: int, process_id: int) -> None:
    """Joins the processes of a run; without a coordinator the run is this process alone.

    `coordinator` is HOST:PORT of process 0, or "auto" where the cluster tells (TPU pods, Slurm).
    """
    if not coordinator:
        return
    if coordinator == "auto":
        jax.distributed.initialize()
        return
    if not 0 <= process_id < num_processes:
        raise ConfigError(
            f"--process_id={process_id}: must be in 0..{num_processes - 1} (--num_processes={num_processes})"
        )
    jax.distributed.initialize(coordinator, num_processes, process_id, heartbeat_timeout_seconds=60)


def barrier(name: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def any_process(flag: bool) -> bool:
    """True where the flag is set in any process; every process must call it."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.asarray(flag)).any())


class StopSignal:
    """SIGTERM, and a first Ctrl-C, become a flag that is looked at between steps; a second Ctrl-C interrupts."""

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> "StopSignal":
        self._previous = {number: signal.signal(number, self._handle) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
