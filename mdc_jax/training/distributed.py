"""Processes: starting them, agreeing, being asked to stop, and ending together."""

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils

from mdc_jax.config import ConfigError
from mdc_jax.training import roll_call

STOPPED = 143  # exit code of a run that a signal ended, saved but not finished: 128 + SIGTERM, as shells have it
_START_TIMEOUT = 300  # seconds that processes wait for each other
_ASKED = "saves and ends after the present step (the first one is compiled before); Ctrl-C again ends at once"
# Under this key JAX's preemption service waits for the time at which a process is to be ended. It agrees at once where
# that is past, whatever the clocks of the machines say.
_NOTICE, _NOW = "RECEIVED_PREEMPTION_NOTICE", "1970-01-01T00:00:00+00:00"
_PART_OF_SLICE = "this is one of the {} machines of a TPU slice, which can only be used together"
_TELL_TIMEOUT = 10  # seconds that an end waits for the thread that tells the others of a signal
_HEARTBEAT_TIMEOUT = 45  # seconds without a sign of life after which a process is taken for dead, and the run ends


def initialize(coordinator: str, num_processes: int, process_id: int) -> None:
    """Joins the processes of a run; without a coordinator the run is this process alone.

    `coordinator` is HOST:PORT of process 0, or "auto" where the cluster tells (TPU pods, Slurm). Raises ConfigError
    for flags that do not fit, where processes do not come, and for one machine of a TPU slice alone, whose TPU would
    wait for the others without a word.
    """
    if not coordinator:
        if (machines := _machines_of_slice()) > 1:
            raise ConfigError(f"{_PART_OF_SLICE.format(machines)}: give --coordinator=auto. {roll_call.FIX}")
        return
    devices = None
    if coordinator == "auto":
        from jax._src.clusters import ClusterEnv  # JAX shows what it finds out about a cluster nowhere else

        nothing = (None, None, None, None, None)
        coordinator, num_processes, process_id, devices = ClusterEnv.auto_detect_unset_distributed_params(
            *nothing, _START_TIMEOUT
        )
        if coordinator is None:
            raise ConfigError(
                "--coordinator=auto: this is no TPU pod, Slurm or Open MPI job; give --coordinator=HOST:PORT, "
                "--num_processes and --process_id"
            )
    if not 0 <= process_id < num_processes:
        raise ConfigError(
            f"--process_id={process_id}: must be in 0..{num_processes - 1} (--num_processes={num_processes})"
        )
    roll_call.hold(coordinator, num_processes, process_id, timeout=_START_TIMEOUT)
    jax.distributed.initialize(
        coordinator,
        num_processes,
        process_id,
        devices,
        initialization_timeout=_START_TIMEOUT,
        heartbeat_timeout_seconds=_HEARTBEAT_TIMEOUT,
    )


def refuse_part_of_slice() -> None:
    """Raises ConfigError for a command of one process on one machine of a TPU slice; see `initialize`."""
    if jax.distributed.is_initialized() or "tpu" not in (jax.config.jax_platforms or "tpu"):
        return
    if (machines := _machines_of_slice()) > 1:
        raise ConfigError(
            f"{_PART_OF_SLICE.format(machines)}: do this on a single machine, or here with JAX_PLATFORMS=cpu"
        )


def _machines_of_slice() -> int:
    """Machines of the TPU slice that this one belongs to; 1 elsewhere."""
    if "TPU_PROCESS_BOUNDS" in os.environ:  # who sets it means this machine alone
        return 1
    try:
        from jax._src.clusters import GceTpuCluster, GkeTpuCluster  # JAX shows them nowhere else

        return next((env.get_process_count() for env in (GceTpuCluster, GkeTpuCluster) if env.is_env_present()), 1)
    # Nobody answers where a TPU would be known, or JAX moved it: no reason to refuse a start.
    except Exception as error:
        logging.warning(
            "whether this machine is one of several of a TPU slice could not be found out (%r). If it is, and nothing "
            "happens now, train with --coordinator=auto on all of them, and do all else on a single machine",
            error,
        )
        return 1


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """In a run of several processes, what ends one of them unforeseen ends it at once.

    At its usual end a process waits for the others, which may be waiting for it, in a step.
    """
    try:
        yield
    except BaseException as error:
        foreseen = isinstance(error, SystemExit) and isinstance(error.code, int)
        if foreseen or not jax.distributed.is_initialized():
            raise
        leave(error.code if isinstance(error, SystemExit) else "".join(traceback.format_exception(error)))


def leave(reason: object) -> NoReturn:
    """Ends this process with its reason, and waits for no other."""
    print(reason, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def barrier(name: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def any_process(flag: bool) -> bool:
    """True where the flag is set in any process; every process must call it."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.asarray(flag)).any())


class StopSignal:
    """SIGTERM, and a first Ctrl-C, to any process end all of them at one boundary; a second Ctrl-C interrupts.

    A boundary is a place that all processes pass equally often, between two steps or two batches of an evaluation. They
    agree on the first one that none has reached, through JAX's preemption service: in threads, without the devices.
    """

    def __init__(self) -> None:
        # Also for one process that was given a coordinator: until __enter__, a SIGTERM is heard by JAX's handler alone.
        self._joined = jax.distributed.is_initialized()
        self._requested = self._told = self._stopping = False
        self._boundaries = 0  # passed

    def __enter__(self) -> "StopSignal":
        self._previous = {number: signal.signal(number, self._handle) for number in (signal.SIGTERM, signal.SIGINT)}
        if self._joined:
            # JAX's own handler, which these replace, would be a second late, and leave Ctrl-C alone. The pipe gets the
            # numbers of signals at once, also while the main thread is in a call that keeps its handlers waiting.
            read, self._pipe = os.pipe()
            os.set_blocking(self._pipe, False)
            self._previous_pipe = signal.set_wakeup_fd(self._pipe)
            self._listener = threading.Thread(target=self._listen, args=(read,), daemon=True)
            self._listener.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._joined:
            signal.set_wakeup_fd(self._previous_pipe)
            os.close(self._pipe)  # which ends the thread
            self._listener.join(_TELL_TIMEOUT)  # Python's end while it tells would abort the process
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def reached(self) -> bool:
        """Whether to stop here, the same in all processes; to be called at every boundary."""
        if not self._joined:
            return self._requested
        if self._requested and not self._told:  # the pipe came later or is another library's, or the thread failed
            self._tell()
        self._boundaries += 1
        self._stopping |= multihost_utils.reached_preemption_sync_point(self._boundaries)
        return self._stopping

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self._requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self._requested:
            # Not by print, which a signal may have interrupted.
            os.write(2, f"\n{signal.Signals(number).name}: {_ASKED}\n".encode())
        self._requested = True

    def _listen(self, pipe: int) -> None:
        with os.fdopen(pipe, "rb", buffering=0) as numbers:
            while number := numbers.read(1):
                if number[0] in self._previous and not self._told:
                    self._tell()

    def _tell(self) -> None:
        from jax._src.distributed import global_state  # JAX shows its store of keys nowhere else

        global_state.client.key_value_set(_NOTICE, _NOW, allow_overwrite=True)
        self._told = True
