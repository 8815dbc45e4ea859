"""Lost memory, disk, data and processes are told with what to do about them; other errors stay what they are."""

import contextlib
import dataclasses
import errno
import itertools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from mdc_jax.config import ConfigError, sections
from mdc_jax.data import retries
from mdc_jax.data.sources.folder import FolderSource
from mdc_jax.training import checkpoint, failures, loop
from tests.training.test_checkpoint import FORMAT_1
from tests.training.test_loop import losses, tiny

WORKDIR = "runs/a"


def test_a_device_without_memory_left() -> None:
    with (
        pytest.raises(failures.Failure, match=r"batch_size.*accumulation.*remat.*fsdp") as told,
        failures.explained(WORKDIR),
    ):
        jax.jit(lambda: jnp.ones(2**44, jnp.float32))().block_until_ready()
    assert "RESOURCE_EXHAUSTED" in str(told.value.__cause__)


FULL, FORBIDDEN = "cannot be written: no. Free space there", "cannot be opened: no. Make it readable and writable"


@pytest.mark.parametrize(
    ("number", "fix"),
    [(errno.ENOSPC, FULL), (errno.EDQUOT, FULL), (errno.EROFS, FORBIDDEN), (errno.EACCES, FORBIDDEN)],
)
def test_a_disk_that_takes_no_more_or_gives_nothing(number: int, fix: str) -> None:
    told = f"{fix}; the same command continues"
    with pytest.raises(failures.Failure, match=f"runs/b/results.json {told}"), failures.explained(WORKDIR):
        raise OSError(number, "no", "runs/b/results.json")
    with pytest.raises(failures.Failure, match=f"runs/a {told}"), failures.explained(WORKDIR):
        raise OSError(number, "no")  # of a file that was opened before


def test_a_process_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    monkeypatch.setattr(failures.distributed, "leave", said.append)
    gloo = ValueError("UNKNOWN: Gloo all-reduce failed: Connection reset by peer")
    with pytest.raises(ValueError, match="Gloo"), failures.explained(WORKDIR):
        raise gloo  # alone, there is none to be lost
    assert said == []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ValueError, match="Gloo"), failures.explained(WORKDIR):
        raise gloo
    assert len(said) == 1 and "another process of this run is gone" in said[0] and "Gloo" in said[0]


def test_other_errors_stay() -> None:
    with pytest.raises(FileNotFoundError), failures.explained(WORKDIR):
        raise FileNotFoundError(errno.ENOENT, "no such file")
    with pytest.raises(ValueError, match="of ours"), failures.explained(WORKDIR):
        raise ValueError("of ours")


def test_only_what_disks_say_is_called_a_disk() -> None:
    full = RuntimeError("Error writing: No space left on device")
    wrapped = ValueError("a commit failed")
    wrapped.__cause__ = OSError(30, "Read-only file system")
    assert failures.is_of_disk(full) and failures.is_of_disk(wrapped)
    assert failures.is_of_disk(ValueError("PERMISSION_DENIED: HTTP response code: 403"))  # of TensorStore, by a bucket
    assert not failures.is_of_disk(ValueError("shapes (3,) and (4,) do not fit"))
    assert not failures.is_of_disk(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"))


@pytest.mark.slow
@pytest.mark.usefixtures("one_device")
def test_data_that_disappears_and_returns_costs_nothing_and_other_data_is_refused(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, away = tmp_path / "photos", tmp_path / "away"
    photos.mkdir()
    for number in range(8):
        PIL.Image.new("RGB", (32, 32), (number * 30, 0, 0)).save(photos / f"{number}.png")
        (photos / f"{number}.txt").write_text(f"a red square of {number}")
    config = tiny(
        duration="8 steps",
        data=dataclasses.replace(tiny().data, train=f"folder:{photos}", threads=1, prefetch=1),
        tokenizer=sections.Tokenizer(model=str(FORMAT_1 / checkpoint.TOKENIZER)),
        checkpoint=sections.Checkpoint(every="2 steps"),
    )
    loop.train(config, tmp_path / "undisturbed")
    expected = checkpoint.load(tmp_path / "undisturbed").params

    absences: list[int] = []
    reads, read = itertools.count(1), FolderSource.__getitem__

    def disappearing(source: FolderSource, index: int) -> object:
        if (number := next(reads)) in (2 * 8, 4 * 8):  # for the second and the fourth step
            photos.rename(away)
            absences.append(number)
        return read(source, index)

    def warned(*_: object) -> None:
        if len(absences) == 1:
            with contextlib.suppress(FileNotFoundError):  # another thread brought it back
                away.rename(photos)

    disturbed = tmp_path / "disturbed"
    with monkeypatch.context() as patch:
        patch.setattr(FolderSource, "__getitem__", disappearing)
        patch.setattr(retries.logging, "warning", warned)
        patch.setattr(retries, "_AFTER", (0.0,))
        with pytest.raises(retries.ReadError, match=r"record \d could not be read in \d attempts: .*photos"):
            loop.train(config, disturbed)
    assert len(absences) == 2 and checkpoint.steps(disturbed)[-1] == 2
    away.rename(photos)
    loop.train(config, disturbed)
    assert losses(disturbed) == losses(tmp_path / "undisturbed")
    jax.tree.map(np.testing.assert_array_equal, checkpoint.load(disturbed).params, expected)

    (photos / "3.txt").write_text("a blue square of 3")
    with pytest.raises(ConfigError, match=r"training data \(data\.train\) .* has hash .*: restore the data, or use"):
        loop.train(dataclasses.replace(config, duration="9 steps"), disturbed)
    assert checkpoint.steps(disturbed)[-1] == 8
