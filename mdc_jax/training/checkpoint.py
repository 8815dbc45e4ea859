"""Checkpoints: `workdir/checkpoints/<step>/{params,optimizer,ema,meta,metrics}`, written whole or not at all.

`meta` is JSON: everything about the run that is no array (format version, position in the data,
stopwatch, resolved config with its preprocessing, hashes of tokenizer and data). The tokenizer
lies beside the checkpoints in `workdir/tokenizer.model`.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from orbax.checkpoint import checkpoint_managers

import mdc_jax
from mdc_jax.config import ConfigError, parse, sections
from mdc_jax.data.tokenizer import Tokenizer
from mdc_jax.objectives.base import Objective
from mdc_jax.training import build, distributed, sharding
from mdc_jax.training.failures import Failure, is_of_disk
from mdc_jax.training.state import State, sharded

FORMAT_VERSION = 1
CHECKPOINTS, DAMAGED, TOKENIZER = "checkpoints", "checkpoints_damaged", "tokenizer.model"
_BEST = "best"
# Weights are nearly random bits: what shrinks by more is made to fill the memory. Small ones may.
_LARGEST_RATIO, _SMALL = 8, 2**26
_KINDS = {  # of what loading takes from `meta`
    "format_version": int,
    "step": int,
    "position": int,
    "seconds": (int, float),
    "config": dict,
    "tokenizer": str,
    "data": str,
}
# Orbax measures its patience by the wall clock: one that is set forward by less than this ends no save.
_SAVE_TIMEOUT = 24 * 60 * 60  # seconds
_PAUSE = 5.0  # seconds between a read that failed and the next, which decides
_SEAL = "sha256"  # of all else in `meta`, in every format that has `version` there

_T = TypeVar("_T")


class DamagedCheckpoint(Exception):
    """A checkpoint cannot be read."""


def _metric(metrics: Any) -> float:
    """What ranks a checkpoint; infinite, the worst, where its file of metrics has no finite number, or was changed."""
    found = metrics.get(_BEST) if isinstance(metrics, dict) else None
    return found if isinstance(found, float) and math.isfinite(found) else math.inf


class Checkpointer:
    """Saves in the background; keeps the latest and the best."""

    def __init__(self, workdir: epath.Path, *, keep_latest: int = 1, keep_best: int = 0) -> None:
        """Raises Failure where nothing can be written to `workdir`, ConfigError where what is there cannot be read."""
        policies = [checkpoint_managers.LatestN(keep_latest)]
        if keep_best:
            policies.append(
                checkpoint_managers.BestN(
                    get_metric_fn=_metric,
                    reverse=True,  # the smallest
                    n=keep_best,
                    keep_checkpoints_without_metrics=False,
                )
            )
        self._workdir = _absolute(workdir)
        options = ocp.CheckpointManagerOptions(
            best_fn=_metric,  # or Orbax writes no metric, and the next start knows of no best
            best_mode="min",
            preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
            enable_async_checkpointing=True,
            async_options=ocp.AsyncOptions(
                timeout_secs=_SAVE_TIMEOUT,
                create_directories_asynchronously=False,  # which has a patience of its own
            ),
        )
        folder = self._workdir / CHECKPOINTS
        try:
            with self._writing():  # the folder, where there is none
                self._manager = ocp.CheckpointManager(folder, options=options)
        except Failure:
            raise
        except Exception as error:  # Orbax reads the metadata of all steps, and has many kinds of them
            raise ConfigError(
                f"{folder} cannot be read: {_reason(error)}. Where a _CHECKPOINT_METADATA or a metrics file in "
                "it was changed, delete the file, which nothing else needs, or restore it from a copy"
            ) from error

    def steps(self) -> list[int]:
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: State, meta: Mapping[str, Any], *, metric: float | None = None) -> None:
        """Starts saving; `metric` (smaller is better) ranks the checkpoint among the best.

        Raises Failure where this save or the one before, which ran in the background, cannot be written.
        """
        items = {
            "params": ocp.args.StandardSave(state.params),
            "optimizer": ocp.args.StandardSave(state.opt_state),
            "meta": ocp.args.JsonSave(
                _sealed({"format_version": FORMAT_VERSION, "version": mdc_jax.__version__, "step": step, **meta})
            ),
        }
        if state.ema is not None:
            items["ema"] = ocp.args.StandardSave(state.ema)
        metrics = {} if metric is None else {_BEST: float(metric)}
        with self._writing():
            self._manager.save(step, args=ocp.args.Composite(**items), metrics=metrics)

    def set_aside(self, step: int) -> epath.Path:
        """Moves a checkpoint to where it is not looked for, and returns the place; every process must call it."""
        place = self._workdir / DAMAGED / str(step)
        if jax.process_index() == 0:
            place.parent.mkdir(exist_ok=True)
            if place.exists():
                place.rmtree()
            (self._workdir / CHECKPOINTS / str(step)).rename(place)
        distributed.barrier(f"set aside {step}")
        self._manager.reload()
        return place

    def meta(self, step: int) -> dict[str, Any]:
        """Everything about the run that is no array; raises ConfigError for a newer format, and DamagedCheckpoint."""
        meta = self._read(step, {"meta": ocp.args.JsonRestore()})["meta"]
        if not _is_whole(meta):
            raise DamagedCheckpoint(f"checkpoint {step} cannot be read: its meta is not what was written")
        if meta["format_version"] > FORMAT_VERSION:
            raise ConfigError(
                f"checkpoint {step} has format {meta['format_version']} of mdc_jax {meta['version']}; this is mdc_jax "
                f"{mdc_jax.__version__}, which reads up to format {FORMAT_VERSION}: update it"
            )
        return {name: value for name, value in meta.items() if name != _SEAL}

    def restore(self, step: int, abstract: State) -> State:
        """Restores onto the shardings of `abstract`, whatever mesh the checkpoint was written on.

        Raises DamagedCheckpoint.
        """
        items = {"params": abstract.params, "optimizer": abstract.opt_state}
        if abstract.ema is not None:
            items["ema"] = abstract.ema
        restored = self._restore(step, items)
        start = jax.device_put(jax.numpy.asarray(step, "int32"), abstract.step.sharding)
        return State(start, restored["params"], restored["optimizer"], restored.get("ema"))

    def restore_params(self, step: int, item: str, abstract: Any) -> Any:
        """Restores the item "params" or "ema" alone; raises DamagedCheckpoint, also for files that are made to fill
        the memory.
        """
        folder = self._workdir / CHECKPOINTS / str(step) / item
        claimed = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(abstract))
        stored = sum((place / name).stat().length for place, _, names in folder.walk() for name in names)
        if claimed > max(_LARGEST_RATIO * stored, _SMALL):
            raise DamagedCheckpoint(
                f"checkpoint {step} cannot be read: its config asks for {claimed:,} bytes of {item}, and "
                f"{stored:,} are there"
            )
        return self._restore(step, {item: abstract})[item]

    def _restore(self, step: int, items: Mapping[str, Any]) -> Mapping[str, Any]:
        for item in items:
            self._check_chunks(step, item)
        return self._read(step, {name: ocp.args.StandardRestore(tree) for name, tree in items.items()})

    def _check_chunks(self, step: int, item: str) -> None:
        """Raises DamagedCheckpoint where an array is stored in larger chunks than it is.

        A chunk is unpacked as a whole, and one of zeros takes next to no room: it could be made to fill the memory.
        """

        def stored() -> list[tuple[str, tuple[int, ...], tuple[int, ...]]]:
            arrays = ocp.StandardCheckpointHandler().metadata(self._workdir / CHECKPOINTS / str(step) / item).tree
            return [(array.name, array.shape, tuple(array.storage.chunk_shape)) for array in jax.tree.leaves(arrays)]

        for name, shape, chunk in _read_twice(step, stored):  # which refuses what is no array, too
            if any(length > max(size, 1) for length, size in zip(chunk, shape, strict=True)):
                raise DamagedCheckpoint(
                    f"checkpoint {step} cannot be read: {name} of {item} is {shape}, in chunks of {chunk}"
                )

    def _read(self, step: int, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        def items() -> dict[str, Any]:
            restored = self._manager.restore(step, args=ocp.args.Composite(**arguments))
            return {name: restored[name] for name in arguments}

        restored = _read_twice(step, items)
        if missing := [name for name, item in restored.items() if item is None]:
            raise DamagedCheckpoint(f"checkpoint {step} lacks {', '.join(missing)}")
        return restored

    def wait(self) -> None:
        """Waits until what was saved is on disk; raises Failure where it cannot be written."""
        with self._writing():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, and ends; raises as `wait`."""
        self.wait()
        self._manager.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # Orbax and TensorStore have many kinds of them
            if not is_of_disk(error):
                raise
            raise Failure(
                f"a checkpoint could not be written to {self._workdir}: {_reason(error)}. Free space there, or make it "
                "writable; the same command continues from the last checkpoint"
            ) from error


def _read_twice(step: int, read: Callable[[], _T]) -> _T:
    """read(), once more where it fails: a bucket may be away for a moment, and what is damaged is set aside.

    Raises DamagedCheckpoint for whatever Orbax and TensorStore say to files that are cut, changed or gone.
    """
    try:
        return read()
    except Exception as error:
        logging.warning("checkpoint %d: %s; reading it once more in %s s", step, _reason(error), _PAUSE)
    time.sleep(_PAUSE)
    try:
        return read()
    except Exception as error:
        raise DamagedCheckpoint(f"checkpoint {step} cannot be read: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What it says, in one line, which Orbax and TensorStore fill a page with."""
    said, _, _ = " ".join(str(error).split()).partition(". See full TensorStore details")
    return said[:300].rstrip(".")


def _sealed(meta: Mapping[str, Any]) -> dict[str, Any]:
    """With a digest of it, as JSON has it."""
    return {**meta, _SEAL: _digest(json.loads(json.dumps(meta)))}


def _is_whole(meta: Any) -> bool:
    """Whether this is a `meta` as it was sealed; or of older code, which had no seal."""
    if not isinstance(meta, dict):
        return False
    seal = meta.get(_SEAL)
    unsealed = {name: value for name, value in meta.items() if name != _SEAL}
    known = isinstance(meta.get("format_version"), int)
    return known and (seal == _digest(unsealed) or (seal is None and "version" not in meta))


def _digest(meta: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def wrong_entry(meta: Mapping[str, Any]) -> str:
    """The first entry that loading a model needs and is of another kind, "" where all are as they should be.

    A seal keeps damage from a `meta`, but not a stranger's hand.
    """
    wrong = (name for name, kind in _KINDS.items() if not isinstance(meta.get(name), kind))
    return next((f"{name}: {meta.get(name)!r}" for name in wrong), "")


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A trained model, ready to encode, caption and score."""

    config: sections.Config
    objective: Objective
    params: Any  # the averaged ones where the run has them
    tokenizer: Tokenizer | None  # None: an image encoder alone
    mesh: jax.sharding.Mesh
    step: int
    meta: Mapping[str, Any]


def load(workdir: epath.PathLike, *, step: int | None = None, mesh: jax.sharding.Mesh | None = None) -> Loaded:
    """Loads a checkpoint of a run for inference: the latest, or that of `step`, on any number of devices.

    Raises ConfigError where there is none, or it cannot be read.
    """
    workdir = _absolute(workdir)
    saved = steps(workdir)
    if step is not None and step not in saved:
        raise ConfigError(f"{workdir} has no checkpoint of step {step!r}; it has those of {saved}")
    step = saved[-1] if step is None else step
    try:
        return _load(workdir, step, mesh)
    except DamagedCheckpoint as error:
        others = [other for other in saved if other != step]
        fix = f"Give another --step; there are {others}" if others else "It is the only one: restore it from a copy"
        raise ConfigError(f"{workdir}: {error}\n{fix}") from error


def _load(workdir: epath.Path, step: int, mesh: jax.sharding.Mesh | None) -> Loaded:
    with contextlib.closing(Checkpointer(workdir)) as checkpointer:
        meta = readable_meta(checkpointer, step)
        config = parse(meta["config"])
        tokenizer = load_tokenizer(workdir, meta["tokenizer"])
        mesh = mesh or sharding.make_mesh(sections.Mesh())
        objective = build.objective(config, tokenizer.vocab_size, mesh, tokenizer.word_starts)
        abstract = sharded(functools.partial(objective.init, jax.random.key(0)), mesh)
        params = checkpointer.restore_params(step, "ema" if config.optimizer.ema else "params", abstract)
    return Loaded(config, objective, params, tokenizer, mesh, step, meta)


def config_of(workdir: epath.PathLike) -> sections.Config:
    """The config of a run's latest checkpoint; raises ConfigError where there is none, or it cannot be read."""
    step = steps(workdir)[-1]
    with contextlib.closing(Checkpointer(_absolute(workdir))) as checkpointer:
        try:
            return parse(readable_meta(checkpointer, step)["config"])
        except DamagedCheckpoint as error:
            raise ConfigError(f"{workdir}: {error}") from error


def readable_meta(checkpointer: Checkpointer, step: int) -> Mapping[str, Any]:
    """The `meta` of a checkpoint, whose entries are of the kinds that loading needs; raises as `Checkpointer.meta`."""
    meta = checkpointer.meta(step)
    if wrong := wrong_entry(meta):
        raise DamagedCheckpoint(f"checkpoint {step} cannot be read: its meta has {wrong}")
    return meta


def steps(workdir: epath.PathLike) -> list[int]:
    """Steps of the checkpoints of a run, in order; raises ConfigError where there is none."""
    saved = []
    if (_absolute(workdir) / CHECKPOINTS).exists():
        with contextlib.closing(Checkpointer(_absolute(workdir))) as checkpointer:
            saved = checkpointer.steps()
    if not saved:
        raise ConfigError(f"{workdir} holds no checkpoint: give the --workdir of a run that has saved one")
    return saved


def load_tokenizer(workdir: epath.Path, expected_hash: str) -> Tokenizer:
    path = workdir / TOKENIZER
    if not path.exists():
        raise ConfigError(f"{path} is missing: copy it from the run that wrote the checkpoints")
    tokenizer = Tokenizer.load(path)
    if tokenizer.hash != expected_hash:
        raise ConfigError(
            f"{path} has hash {tokenizer.hash}, but the checkpoint was trained with {expected_hash}: restore that file"
        )
    return tokenizer


def _absolute(path: epath.PathLike) -> epath.Path:
    """Orbax needs absolute paths; those of buckets are."""
    path = epath.Path(path)
    return path if "://" in str(path) else path.absolute()
