"""`mdc_jax.main` in a process to which something happens when it logs a step:

    python -m tests.end_to_end.faulty FAULT STEP --config=FILE --workdir=DIR

The checkpoint that was due before that step is on disk by then.
"""

import ctypes
import os
import pathlib
import resource
import runpy
import signal
import sys
import time
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from absl import logging

from mdc_jax.report.metrics_file import METRICS_FILE
from mdc_jax.training import checkpoint
from mdc_jax.training.metric_writer import MetricWriter

EVERY = 10  # steps from one checkpoint to the next


def read_only(workdir: pathlib.Path) -> None:
    _quieten_threads()
    _permit(workdir, 0o555)


def make_writable(workdir: pathlib.Path) -> None:
    _permit(workdir, 0o755)


def no_space_for_a_checkpoint(workdir: pathlib.Path) -> None:
    """Files that may not grow beyond a size fail as those on a full disk do; the log has room for 20 more lines."""
    logging.set_verbosity(logging.FATAL)  # what Orbax says of each file would take the room of the error
    _quieten_threads()
    _limit_files((workdir / METRICS_FILE).stat().st_size * 5 // 2)


def no_space_for_the_log(workdir: pathlib.Path) -> None:
    """It ends in the middle of a line."""
    _limit_files((workdir / METRICS_FILE).stat().st_size + 10)


def out_of_memory(_: pathlib.Path) -> None:
    jax.jit(lambda: jnp.ones(2**44, jnp.float32))().block_until_ready()


def ctrl_c(_: pathlib.Path) -> None:
    os.kill(os.getpid(), signal.SIGINT)


def ctrl_c_twice(workdir: pathlib.Path) -> None:
    ctrl_c(workdir)
    ctrl_c(workdir)


def bug(_: pathlib.Path) -> None:
    raise ZeroDivisionError


_FAULTS = (read_only, no_space_for_a_checkpoint, no_space_for_the_log, out_of_memory, ctrl_c, ctrl_c_twice, bug)


def _quieten_threads() -> None:
    """After a save has failed, threads of TensorStore print, file by file, that Orbax's event loop is closed."""
    sys.unraisablehook = lambda _: None


def _permit(workdir: pathlib.Path, mode: int) -> None:
    for folder in (workdir, workdir / checkpoint.CHECKPOINTS):
        folder.chmod(mode)


def _obey_permissions() -> None:
    """Takes from this thread, and from those that it will start, what lets root write where nobody may; Linux alone."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # the version with 64 bits; this thread
    capabilities = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable ones: the lower halves first
    libc = ctypes.CDLL(None)
    libc.capget(header, capabilities)
    capabilities[0] &= ~0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    libc.capset(header, capabilities)


def _limit_files(size: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))


def _main(name: str, at: int, workdir: pathlib.Path) -> None:
    write = MetricWriter.write
    (fault,) = (fault for fault in _FAULTS if fault.__name__ == name)

    def struck(self: MetricWriter, step: int, metrics: Mapping[str, float]) -> None:
        if step == at:
            while not (workdir / checkpoint.CHECKPOINTS / str(at // EVERY * EVERY)).exists():
                time.sleep(0.01)
            fault(workdir)
        write(self, step, metrics)

    MetricWriter.write = struck
    if fault is read_only and os.geteuid() == 0:
        _obey_permissions()
    runpy.run_module("mdc_jax.main", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    what, when, *sys.argv[1:] = sys.argv[1:]
    (place,) = (argument.partition("=")[2] for argument in sys.argv if argument.startswith("--workdir="))
    _main(what, int(when), pathlib.Path(place))
