"""What JAX and the operating system say when memory, disk or processes are lost, in words that name the fix."""

import contextlib
import errno
import re
from collections.abc import Iterator

import jax

from mdc_jax.training import distributed


class Failure(RuntimeError):
    """What a run cannot get past, and what to do about it; all that was saved before is kept."""


_FULL, _FORBIDDEN = "cannot be written: {}. Free space there", "cannot be opened: {}. Make it readable and writable"
_DISK = {  # what each error means, and what to do about it
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: _FULL,
    errno.EROFS: _FORBIDDEN,
    errno.EACCES: _FORBIDDEN,
}
# What Gloo (CPU), NCCL (GPU) and JAX's coordination say of a process that is gone.
_LOST = re.compile(r"gloo|nccl|unavailable|connection (reset|closed)|heartbeat|coordination", re.IGNORECASE)


# The same by Orbax and TensorStore, whose errors have no number.
_DISK_TEXT = re.compile("no space left|quota|file too large|read-only|permission.denied|no such file", re.IGNORECASE)


def is_of_disk(error: BaseException) -> bool:
    """Whether an error, or one that it came from, says that a file system takes or gives nothing."""
    if (isinstance(error, OSError) and error.errno in _DISK) or _DISK_TEXT.search(str(error)):
        return True
    before = error.__cause__ or error.__context__
    return before is not None and is_of_disk(before)


@contextlib.contextmanager
def explained(workdir: object) -> Iterator[None]:
    """Raises Failure where memory or disk ends, or a file is forbidden; where another process is gone, ends this one.

    In that case it says why, and does not return: all that would follow waits for the process that is gone. `workdir`
    is named where an error names no file, as that of a write to one that was opened before.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _DISK:
            told = _DISK[error.errno].format(error.strerror)
            raise Failure(f"{error.filename or workdir} {told}; {_CONTINUES}") from error
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
