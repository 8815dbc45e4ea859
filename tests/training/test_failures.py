"""Lost memory, disk and processes are told with what to do about them; other errors stay what they are."""

import errno

import jax
import jax.numpy as jnp
import pytest

from mdc_jax.training import failures


def test_a_device_without_memory_left() -> None:
    with pytest.raises(failures.Failure, match=r"batch_size.*accumulation.*remat.*fsdp") as told, failures.explained():
        jax.jit(lambda: jnp.ones(2**44, jnp.float32))().block_until_ready()
    assert "RESOURCE_EXHAUSTED" in str(told.value.__cause__)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_disk_that_takes_no_more(number: int) -> None:
    with pytest.raises(failures.Failure, match=r"metrics\.jsonl.*free space.*continues"), failures.explained():
        raise OSError(number, "no", "runs/a/metrics.jsonl")


def test_a_process_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    monkeypatch.setattr(failures.distributed, "leave", said.append)
    gloo = ValueError("UNKNOWN: Gloo all-reduce failed: Connection reset by peer")
    with pytest.raises(ValueError, match="Gloo"), failures.explained():
        raise gloo  # alone, there is none to be lost
    assert said == []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ValueError), failures.explained():
        raise gloo
    assert len(said) == 1 and "another process of this run is gone" in said[0] and "Gloo" in said[0]


def test_other_errors_stay() -> None:
    with pytest.raises(FileNotFoundError), failures.explained():
        raise FileNotFoundError(errno.ENOENT, "no such file")
    with pytest.raises(ValueError, match="of ours"), failures.explained():
        raise ValueError("of ours")


def test_only_what_disks_say_is_called_a_disk() -> None:
    full = RuntimeError("Error writing: No space left on device")
    wrapped = ValueError("a commit failed")
    wrapped.__cause__ = OSError(30, "Read-only file system")
    assert failures.is_of_disk(full) and failures.is_of_disk(wrapped)
    assert not failures.is_of_disk(ValueError("shapes (3,) and (4,) do not fit"))
