"""Writes prepared data: ArrayRecord shards and a manifest, the same bytes on every repetition.

Until all of them are there, what is known of a finished shard stands in a journal, a file per shard, so that a second
run keeps it.
"""

import collections
import contextlib
import dataclasses
import hashlib
import io
import json
import pathlib
import shutil
import sys
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

import numpy as np
import tqdm
from array_record.python.array_record_module import ArrayRecordWriter
from etils import epath

from mdc_jax import files, lock
from mdc_jax.data.prepare.example import Example
from mdc_jax.data.prepare.lengths import WORDS, Lengths
from mdc_jax.data.prepare.manifest import (
    FORMAT_VERSION,
    MANIFEST,
    Manifest,
    Shard,
    lengths_path,
    read_shard,
)
from mdc_jax.data.sources.base import BadRecord
from mdc_jax.data.texts import readable

_JOURNAL = ".finished"  # folder of the journal
NAMED_OF_A_REASON = 3  # dropped examples that a shard names, of every reason
_NAMED = 1_000  # ... and all shards together
_SHOWN = 20  # ... and the terminal
NAME_LENGTH = 120  # characters; names come from the data
_KEPT = "What is finished is kept: repair the data, or allow more (--max_bad_share), and run again."
_JUDGE_AFTER = 1_000  # examples before the share of dropped ones is judged, except at the end
_HOPELESS = 0.5  # share of dropped ones that is too much whatever comes
# Encoded images do not compress; one record a group makes reading at random as fast as in order.
_WRITER_OPTIONS = "group_size:1,uncompressed"


class TooManyDropped(RuntimeError):
    """More examples than `max_dropped` could not be used; `dropped` counts them by reason."""

    def __init__(self, message: str, dropped: Mapping[str, int] = MappingProxyType({})) -> None:
        super().__init__(message)
        self.dropped = dropped


class OtherInputs(ValueError):
    """A finished shard was made from something else than this run's input."""


class Plan(Protocol):
    """A file to be written. Plans are pickled where shards are written in several processes."""

    name: str  # of the file
    split: str
    size: int  # for the progress bar: examples, or bytes

    @property
    def inputs(self) -> str:
        """Hash of everything that decides the content."""

    def examples(self) -> Iterable[Example | BadRecord]:
        """Is called only if the file is not there yet."""


@dataclasses.dataclass(frozen=True)
class ShardPlan:
    """A plan that knows its inputs."""

    name: str
    split: str
    inputs: str
    size: int  # examples that are tried
    examples: Callable[[], Iterable[Example | BadRecord]]


@dataclasses.dataclass(frozen=True)
class Task:
    """Calling it writes the planned file, unless it is there already; `earlier` is what is known of such a file.

    One that was made from other inputs is written anew where `replace` says so; else that is OtherInputs.
    """

    directory: pathlib.Path
    plan: Plan
    lengths: Lengths
    earlier: Shard | None
    replace: bool = True

    def __call__(self) -> Shard:
        path, shard, inputs = self.directory / self.plan.name, self.earlier, self._inputs()
        self._check(inputs)
        if shard is None or shard.inputs != inputs or not _whole(path, shard):
            shard = write_shard(path, self.plan.split, inputs, self.plan.examples(), self.lengths)
        files.write(_journal(self.directory, self.plan.name), json.dumps(dataclasses.asdict(shard)))
        return shard

    def check(self) -> None:
        """Raises OtherInputs where a call would."""
        if self.earlier is not None and not self.replace:
            self._check(self._inputs())

    def _inputs(self) -> str:
        text = repr((FORMAT_VERSION, self.plan.inputs, self.lengths.describe()))
        return hashlib.sha256(text.encode()).hexdigest()

    def _check(self, inputs: str) -> None:
        if self.earlier is not None and self.earlier.inputs != inputs and not self.replace:
            raise OtherInputs(
                f"{self.directory / self.plan.name} was made from other data than it is made from now, or with other "
                "settings: prepare to another folder, or replace what is there with --replace"
            )


Runner = Callable[[Sequence[Task]], Generator[tuple[Task, Shard], None, None]]


def in_process(tasks: Sequence[Task]) -> Generator[tuple[Task, Shard], None, None]:
    """Calls the tasks here, one after the other. The other ways are in `runners.py`."""
    for task in tasks:
        yield task, task()


def write_all(
    directory: pathlib.Path,
    manifest: Manifest,
    plans: Sequence[Plan],
    *,
    lengths: Lengths = WORDS,
    max_dropped: float = 1.0,
    unread: Collection[str] = (),
    unit: str = " examples",
    replace: bool = True,
    run: Runner = in_process,
) -> Manifest:
    """Writes every shard that is not there yet, then the complete manifest.

    A shard of an earlier run is kept if it was made from the same inputs and its checksum still holds. Files of earlier
    runs that are not planned now are removed.

    Args:
      directory: where to; is made if need be.
      manifest: what is known of the data beforehand.
      plans: a shard each, with different names.
      lengths: measures captions.
      max_dropped: the share of examples that may be dropped, of those which the plans try, and of plans with `unread`.
      unread: reasons to drop something that stand for the rest of a plan's input, whatever that held.
      unit: of the plans' sizes.
      replace: whether shards of a complete folder may be written anew where their inputs, or settings, are others.
      run: where the work is done.

    Raises:
      TooManyDropped: see there, or nothing is left; what was finished is kept.
      OtherInputs: `replace` is False, and needed; the folder is as it was.
      ValueError: no example has a text of one of the columns.
      OSError: something could not be read or written.
      ConfigError: another process is writing there.
    """
    (directory / _JOURNAL).mkdir(parents=True, exist_ok=True)
    with lock.hold(epath.Path(directory), "out", f"{_JOURNAL}/{lock.FILE}"):
        before = Manifest.read(directory) if (directory / MANIFEST).exists() else None
        kept = frozenset(before.shards) if before is not None and before.complete and not replace else frozenset()
        earlier = finished(directory)
        tally = _Tally(manifest, max_dropped, plans, unread)
        try:
            return _write_all(directory, manifest, plans, lengths, tally, unit, earlier, kept, run)
        except OtherInputs:
            _undo(directory, plans, earlier, kept)
            raise


def _undo(directory: pathlib.Path, plans: Sequence[Plan], earlier: Collection[str], kept: Collection[str]) -> None:
    """Removes what a run added to a complete folder; what an earlier one had added stays for one that goes on."""
    for plan in plans:
        if plan.name not in earlier:
            _remove(directory / plan.name)
        if plan.name not in earlier or plan.name in kept:
            _journal(directory, plan.name).unlink(missing_ok=True)
    for path in directory.glob(f"*{files.UNFINISHED}"):
        path.unlink()
    if not any((directory / _JOURNAL).glob("*.json")):
        shutil.rmtree(directory / _JOURNAL)


def _journal(directory: pathlib.Path, name: str) -> pathlib.Path:
    """The file that says that a shard is finished."""
    return directory / _JOURNAL / f"{name}.json"


def _write_all(
    directory: pathlib.Path,
    manifest: Manifest,
    plans: Sequence[Plan],
    lengths: Lengths,
    tally: "_Tally",
    unit: str,
    earlier: Mapping[str, Shard],
    kept: Collection[str],
    run: Runner,
) -> Manifest:
    tasks = [Task(directory, plan, lengths, earlier.get(plan.name), plan.name not in kept) for plan in plans]
    manifest = dataclasses.replace(manifest, shards={}, lengths=lengths.describe(), complete=False)
    if not kept:  # else what is there stays complete, and as it is, until the end
        dataclasses.replace(manifest, shards=earlier).write(directory)
    bar = tqdm.tqdm(total=sum(plan.size for plan in plans), unit=unit, unit_scale=unit == "B")
    with bar, contextlib.closing(run(tasks)) as done:
        for task, shard in done:
            manifest.shards[task.plan.name] = shard
            bar.update(task.plan.size)
            tally.add(shard, task.plan.size)
            tally.judge()
    tally.finish()
    _check_columns(directory, manifest.shards, lengths.columns)
    for name in earlier.keys() - manifest.shards.keys():
        _remove(directory / name)
    for path in directory.glob(f"*{files.UNFINISHED}"):  # of plans that a killed run had and this one has not
        path.unlink()
    manifest.shards = _bounded(manifest.shards)
    manifest.complete = True
    manifest.write(directory)
    shutil.rmtree(directory / _JOURNAL)
    return manifest


def _remove(shard: pathlib.Path) -> None:
    shard.unlink(missing_ok=True)
    lengths_path(shard).unlink(missing_ok=True)


def _check_columns(directory: pathlib.Path, shards: Iterable[str], columns: Sequence[str]) -> None:
    found = np.zeros(len(columns), bool)
    for name in shards:
        found |= np.load(lengths_path(directory / name)).any(0)
    empty = [column for column, some in zip(columns, found, strict=True) if not some]
    if empty:
        raise ValueError(f"no example has a text of column {', '.join(empty)}: check its name, and prepare again")


def write_shard(
    path: pathlib.Path, split: str, inputs: str, examples: Iterable[Example | BadRecord], lengths: Lengths
) -> Shard:
    """Writes one file and its lengths, under other names until they are whole; every BadRecord is counted as dropped.

    Raises:
      OSError: the file cannot be written.
    """
    dropped: dict[str, int] = {}
    named: dict[str, list[str]] = {}
    measured = []
    sidecar = lengths_path(path)
    with files.whole(path) as unfinished:
        try:
            with contextlib.closing(ArrayRecordWriter(str(unfinished), _WRITER_OPTIONS)) as writer:
                for example in examples:
                    if isinstance(example, Example):
                        example, entry = _packed(example)
                    if isinstance(example, BadRecord):
                        dropped[example.reason] = dropped.get(example.reason, 0) + 1
                        if example.name and len(named.setdefault(example.reason, [])) < NAMED_OF_A_REASON:
                            named[example.reason].append(readable(example.name[:NAME_LENGTH]))
                    else:
                        writer.write(entry)
                        measured.append(lengths(example))
        except RuntimeError as error:  # what the writer says to a full disk
            raise OSError(f"{path} cannot be written: {error}") from error
        size, digest = unfinished.stat().length, files.sha256(unfinished)
        files.write(sidecar, _npy(np.array(measured, np.uint16).reshape(len(measured), len(lengths.columns))))
    return Shard(
        split, inputs, len(measured), size, digest, dict(sorted(dropped.items())), files.sha256(sidecar), named
    )


def _packed(example: Example) -> tuple[Example | BadRecord, bytes]:
    try:
        return example, example.pack()
    except UnicodeEncodeError:
        return BadRecord("text not UTF-8", str(example.about.get("key") or example.about.get("file", ""))), b""


def finished(directory: pathlib.Path, *, complete: bool = False) -> dict[str, Shard]:
    """Shards that earlier runs wrote to a folder, by name: those of its manifest and of its journal.

    `complete`: of its manifest alone, and only where that is complete.
    """
    manifest = Manifest.read(directory) if (directory / MANIFEST).exists() else None
    if complete:
        return manifest.shards if manifest is not None and manifest.complete else {}
    shards = dict(manifest.shards) if manifest is not None else {}
    for path in (directory / _JOURNAL).glob("*.json"):
        name = path.name.removesuffix(".json")
        with contextlib.suppress(ValueError, TypeError, AttributeError, RecursionError):  # it is written again
            shards[name] = read_shard(name, json.loads(path.read_bytes()))
    return shards


def _whole(path: pathlib.Path, shard: Shard) -> bool:
    lengths = lengths_path(path)
    return (
        path.exists()
        and lengths.exists()
        and files.sha256(lengths) == shard.lengths_sha256
        and files.sha256(path) == shard.sha256
    )


class _Tally:
    """What was kept and dropped so far; names the first dropped examples on the terminal."""

    def __init__(self, manifest: Manifest, max_dropped: float, plans: Sequence[Plan], unread: Collection[str]) -> None:
        self._max_dropped = max_dropped
        self._plans, self._unread = len(plans), frozenset(unread)
        self._size, self._done = sum(plan.size for plan in plans), 0
        self._beforehand = sum(manifest.dropped.values())
        self._not_to_the_end = 0  # plans
        self._records = 0
        self._dropped = collections.Counter(manifest.dropped)
        self._first: dict[str, str] = {}  # dropped example of every reason
        self._shown = 0
        self._name(manifest.named)

    def add(self, shard: Shard, size: int) -> None:
        """Counts a shard that was made from so much of the input."""
        self._done += size
        self._records += shard.records
        self._dropped.update(shard.dropped)
        self._not_to_the_end += not self._unread.isdisjoint(shard.dropped)
        self._name(shard.named)

    def _name(self, dropped: Mapping[str, Sequence[str]]) -> None:
        named = [(reason, name) for reason, names in dropped.items() for name in names]
        for reason, name in named:
            self._first.setdefault(reason, name)
        for reason, name in named[: _SHOWN - self._shown]:
            tqdm.tqdm.write(f"dropped {name}: {reason}", file=sys.stderr)
            self._shown += 1

    def judge(self) -> None:
        """Raises TooManyDropped at the end; before it where what is to come would have to be twice what seems left."""
        if self._not_to_the_end > self._max_dropped * self._plans:
            raise TooManyDropped(
                f"{self._not_to_the_end} of {self._plans} inputs cannot be read to their end ({self._reasons()}), more "
                f"than the allowed share of {self._max_dropped:g}, and what they held is not known. {_KEPT}",
                self._dropped,
            )
        dropped = self._dropped.total()
        tried = self._records + dropped - self._beforehand
        expected = self._beforehand + tried
        if self._done < self._size:  # so that it does not depend on the order in which shards are finished
            if tried < _JUDGE_AFTER:
                return
            if dropped - self._beforehand <= max(_HOPELESS, self._max_dropped) * tried:
                expected += 2 * tried * (self._size / max(self._done, 1) - 1)
        if dropped > self._max_dropped * expected:
            raise TooManyDropped(
                f"{dropped} of {self._records + dropped} examples cannot be used ({self._reasons()}), more than the "
                f"allowed share of {self._max_dropped:g}. {_KEPT}",
                self._dropped,
            )

    def finish(self) -> None:
        """Judges the whole."""
        self._done = self._size
        self.judge()
        if not self._records:
            why = self._reasons() or "it holds no example"
            raise TooManyDropped(f"nothing of this data can be used: {why}", self._dropped)

    def _reasons(self) -> str:
        return ", ".join(
            f"{count} x {reason}" + (f", as {self._first[reason]}" if reason in self._first else "")
            for reason, count in self._dropped.most_common()
        )


def _bounded(shards: Mapping[str, Shard]) -> dict[str, Shard]:
    """Shards in the order of their names; from the `_NAMED`th dropped example on none is named."""
    left, bounded = _NAMED, {}
    for name, shard in sorted(shards.items()):
        named = shard.named if left > 0 else {}
        left -= sum(len(names) for names in named.values())
        bounded[name] = dataclasses.replace(shard, named=named)
    return bounded


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()
