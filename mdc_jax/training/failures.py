"""What JAX and the operating system say when memory, disk or processes are lost, in words that name the fix."""

import contextlib
import errno
import re
from collections.abc import Iterator

import jax

from mdc_jax.training import distributed


class Failure(RuntimeError):
    """What a run cannot get past, and what to do about it; all that was saved before is kept."""


_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES}
# What Gloo (CPU), NCCL (GPU) and JAX's coordination say of a process that is gone.
_LOST = re.compile(r"gloo|nccl|unavailable|connection (reset|closed)|heartbeat|coordination", re.IGNORECASE)


# The same by Orbax and TensorStore, whose errors have no number.
_DISK_TEXT = re.compile("no space left|quota|file too large|read-only|permission denied|no such file", re.IGNORECASE)


def is_of_disk(error: BaseException) -> bool:
    """Whether an error, or one that it came from, says that nothing can be written."""
    if isinstance(error, OSError) or _DISK_TEXT.search(str(error)):
        return True
    before = error.__cause__ or error.__context__
    return before is not None and is_of_disk(before)


@contextlib.contextmanager
def explained(workdir: object) -> Iterator[None]:
    """Raises Failure where memory or disk ends; where another process is gone, ends this one with the reason.

    In that case it does not return: all that would follow waits for the process that is gone. `workdir` is named where
    an error names no file, as that of a write to one that was opened before.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _DISK:
            raise Failure(
                f"{error.filename or workdir} cannot be written: {error.strerror}. Free space there, or make it "
                f"writable; {_CONTINUES}"
            ) from error
        raise
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        if "RESOURCE_EXHAUSTED" in reason:
            raise Failure(
                f"out of memory on the device ({reason}). Lower data.batch_size, raise optimizer.accumulation, set "
                f"model.remat=on, or mesh.fsdp to the number of devices; {_CONTINUES}"
            ) from error
        if jax.process_count() > 1 and _LOST.search(reason):
            distributed.leave(f"error: another process of this run is gone ({reason}); {_CONTINUES}")
        raise


_CONTINUES = "the same command continues from the last checkpoint"
