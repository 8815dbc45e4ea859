"""The trainer: every objective, every data set, one loop.

The loop's order is a contract, since a checkpoint must hold the state, the position in the data
and the log of one and the same step:

    EVALUATE ON THE OLD STATE → SAVE → NEXT BATCH → STEP → READ THE METRICS OF THE STEP BEFORE

Before a save the pending metrics are read: a loss or gradient norm that is not finite stops the
run on all hosts and never reaches a checkpoint.
"""

import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath

from mdc_jax import evaluators, files, lock
from mdc_jax.config import ConfigError, dumps, duration, sections, steps, to_dict
from mdc_jax.config.errors import require
from mdc_jax.data import caption_safety
from mdc_jax.data.captions import make_tokenizer, share_cut
from mdc_jax.data.pipeline import TrainBatches
from mdc_jax.data.sources import open_source
from mdc_jax.data.sources.base import Source
from mdc_jax.data.tokenizer import Tokenizer
from mdc_jax.evaluators.base import Interrupted, Subject
from mdc_jax.exchange import initial
from mdc_jax.report import evaluations, metrics_file
from mdc_jax.training import (
    accounting,
    build,
    checkpoint,
    compatibility,
    distributed,
    failures,
    label_families,
    memory,
    sharding,
)
from mdc_jax.training import state as train_state
from mdc_jax.training.accounting import Cost
from mdc_jax.training.metric_writer import MetricWriter, Terminal
from mdc_jax.training.optimizer import describe_rules, learning_rate
from mdc_jax.training.step_trace import StepTrace
from mdc_jax.training.train_log import TrainLog
from mdc_jax.training.watchdog import Watchdog

CONFIG_FILE = "config.json"
_NOTABLE = 0.01  # share of the captions that lose their ends, above which that is said


def train(config: sections.Config, workdir: epath.PathLike) -> Mapping[str, float] | None:
    """Trains, or continues, the run of `workdir`, evaluates it and returns the final results.

    Resumes from the latest checkpoint that can be read; a finished run prints its results again. On SIGTERM it saves
    and returns early: None. Raises ConfigError for settings that cannot work or belong to another run, and for a
    workdir in which another run is at work; Failure where memory or disk end; NonFiniteError; and what the data raises.
    """
    workdir = epath.Path(workdir)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--workdir={workdir} cannot be made: {error}") from error
    mesh = sharding.make_mesh(config.mesh)
    sharding.check_batch(config.data.batch_size, config.optimizer.accumulation, mesh)
    source = open_source(config.data.train)
    config = label_families.filled(config, source)
    caption_safety.check(source, config.image)
    evaluators.check(config)
    keep = {"keep_latest": config.checkpoint.keep_latest, "keep_best": config.checkpoint.keep_best}
    with lock.hold(workdir) if jax.process_index() == 0 else contextlib.nullcontext():
        checkpointer = checkpoint.Checkpointer(workdir, **keep)
        with contextlib.closing(checkpointer), distributed.StopSignal() as stop:
            start_at = functools.partial(_Run, config, workdir, mesh, source, checkpointer, stop)
            with failures.explained(workdir):
                return _start(start_at, checkpointer).execute()


def _start(start_at: Callable[[int], "_Run"], checkpointer: checkpoint.Checkpointer) -> "_Run":
    """The ladder of starts: the newest checkpoint that can be read, else from scratch where there is none.

    Checkpoints that cannot be read are set aside once an older one could be. Raises ConfigError where none can.
    """
    damaged: dict[int, str] = {}
    for step in reversed(checkpointer.steps() or [0]):
        reason = ""
        try:
            run = start_at(step)
            run.prepare()
        except checkpoint.DamagedCheckpoint as error:
            reason = str(error)
        if not distributed.any_process(bool(reason)):
            break
        damaged[step] = reason or f"checkpoint {step} cannot be read by another process"
    else:
        raise ConfigError("\n".join((*damaged.values(), "restore one of them from a copy, or use another --workdir")))
    for step, reason in damaged.items():
        run.terminal.say(f"warning: {reason}")
        run.terminal.say(f"warning: it is kept in {checkpointer.set_aside(step)}, and step {run.start:,} used instead")
    return run


class _Run:
    """One start of a run, from the checkpoint of a step (0: from scratch) to its end or a signal."""

    def __init__(
        self,
        config: sections.Config,
        workdir: epath.Path,
        mesh: jax.sharding.Mesh,
        source: Source,
        checkpointer: checkpoint.Checkpointer,
        stop: distributed.StopSignal,
        start: int,
    ) -> None:
        self.config, self.workdir, self.mesh, self.source = config, workdir, mesh, source
        self.checkpointer, self.stop, self.start = checkpointer, stop, start
        self.meta = (
            checkpoint.readable_meta(checkpointer, start)
            if start
            else {"position": 0, "seconds": 0.0, "window": [], "evaluated": True}
        )
        self.warnings: list[str] = []
        if start:
            self.warnings = compatibility.check_resume(self.meta["config"], config)
            compatibility.check_same(
                "training data (data.train)",
                self.meta["data"],
                source.fingerprint,
                "restore the data, or use another --workdir",
            )
            self.tokenizer = checkpoint.load_tokenizer(workdir, self.meta["tokenizer"])
            _check_tokenizer(config.tokenizer.model, self.tokenizer)
        else:
            # A run that was started with a larger one, when that was not refused, goes on.
            require(config.seed < 2**32, "seed", config.seed, "JAX's keys tell seeds apart up to 4,294,967,295")
            self.tokenizer = _share_tokenizer(config, source, workdir)

        self.watchdog = Watchdog(config.log.watchdog)
        self.total = _total_steps(config, self.start, self.meta["position"], len(source))
        self.terminal = Terminal(self.total, config.data.batch_size)
        # The order of the data stays that of the first start, also with another batch size.
        self.bucket_run: int = self.meta.get("bucket_run", config.data.batch_size)

    # ------------------------------------------------------------------ the whole of a start

    def prepare(self) -> None:
        """Builds and restores what training needs; nothing where the run is finished."""
        self.finished = self._finished()
        if self.finished is not None:
            return
        config, why = memory.with_remat(self.config, self.tokenizer.vocab_size, self.mesh)
        vocab_size, word_starts = self.tokenizer.vocab_size, self.tokenizer.word_starts
        self.objective = build.objective(config, vocab_size, self.mesh, word_starts)
        self.state, self.step_fn = self._state_and_step()
        if why:
            self.terminal.say(why)

    def execute(self) -> Mapping[str, float] | None:
        for warning in self.warnings:
            self.terminal.say(f"warning: {warning}")
        if self.finished is not None:
            self.terminal.say(f"this run is finished (step {self.start:,}); its results:")
            self.terminal.say(self._summary(self.finished, self.start))
            return self.finished
        if jax.process_index() == 0:
            files.write(self.workdir / CONFIG_FILE, dumps(self.config))
            if not self.start:
                self._say_what_is_cut()
        self.writer = MetricWriter(
            self.workdir,
            step=self.start,
            tensorboard=self.config.log.tensorboard,
            wandb=self.config.log.wandb,
        )
        with contextlib.closing(self.writer):
            done, stopped = self._loop()
            if stopped:
                saved = ", saved" if done else ""
                self.terminal.say(f"stopped at step {done:,} of {self.total:,}{saved}; the same command continues")
                return None
            try:
                results = self._final_evaluation()
            except Interrupted:
                self.terminal.say("stopped during the final evaluation; the same command continues")
                return None
        self.terminal.say(self._summary(results, self.total))
        return results

    def _state_and_step(self) -> tuple[train_state.State, Callable[..., Any]]:
        """Initialises or restores the state, sharded from the start, and compiles nothing yet."""
        config = self.config
        warmup = self._steps(config.optimizer.warmup)
        schedule = learning_rate(config.optimizer, warmup, self.total)
        if warmup >= self.total:
            self.terminal.say(
                f"warning: optimizer.warmup={config.optimizer.warmup!r} is not shorter than the run of {self.total:,} "
                f"steps: it is cut to {self.total - 1:,}"
            )
        init, abstract, step = train_state.program(
            self.objective, config.optimizer, schedule, self.mesh, seed=config.seed
        )
        state = self.checkpointer.restore(self.start, abstract) if self.start else self._first_state(init)
        self.terminal.say(
            f"{config.objective.name}, {accounting.describe(state.params)}, "
            f"{self.mesh.size} x {jax.devices()[0].device_kind}\n"
            f"{memory.describe(state)}\n"
            f"{self.total:,} steps of {config.data.batch_size} images from {self.source.spec} ({len(self.source):,}), "
            + (f"from step {self.start:,}" if self.start else f"from {config.init_from or 'scratch'}")
        )
        before = self.meta["config"]["duration"] if self.start else config.duration
        if before != config.duration:
            self.terminal.say(
                f"duration: {before} → {config.duration}; the learning rate goes on at {schedule(self.start):.3g}, as "
                f"in a run of {self.total:,} steps"
            )
        if config.optimizer.lr_multipliers:
            self.terminal.say(describe_rules(config.optimizer.lr_multipliers, state.params))
        return state, step

    def _first_state(self, init: Callable[[], train_state.State]) -> train_state.State:
        """Random parameters, or those that the config starts from."""
        state = init()
        if not self.config.init_from:
            return state
        params, account = initial.start(self.config, self.tokenizer, state.params)
        self.terminal.say(account)
        averaged = None if state.ema is None else jax.tree.map(jnp.copy, params)
        return dataclasses.replace(state, params=params, ema=averaged)

    def _say_what_is_cut(self) -> None:
        if "text" not in self.objective.batch_keys:
            return
        share = share_cut(self.source, self.tokenizer, self.config.data.max_tokens)
        if share > _NOTABLE:
            self.terminal.say(
                f"warning: {share:.0%} of the training captions are longer than data.max_tokens="
                f"{self.config.data.max_tokens}, and lose their ends"
            )

    # ------------------------------------------------------------------ the loop

    def _loop(self) -> tuple[int, bool]:
        """Trains to the end or a signal; returns the steps done, and whether a signal ended it."""
        config, batch_size = self.config, self.config.data.batch_size
        save_every = self._steps(config.checkpoint.every)
        cost = Cost(
            self.objective,
            config.data.captions_per_image,
            jax.devices()[0].device_kind,
            self.mesh.size,
            frozen=any(factor == 0 for _, factor in config.optimizer.lr_multipliers),
        )
        self.terminal.say(cost.describe())
        log = TrainLog(
            self.writer,
            self.terminal,
            every=self._steps(config.log.every),
            batch_size=batch_size,
            meta=self.meta,
            cost=cost,
        )
        batches = TrainBatches(
            self.source,
            self.tokenizer,
            config,
            position=self.meta["position"],
            rows=sharding.local_rows(batch_size, self.mesh),
            keys=self.objective.batch_keys,
            bucket_run=self.bucket_run,
        )
        step, position, saved = self.start, self.meta["position"], self.start
        evaluated = self.meta["evaluated"]
        trace = StepTrace(
            duration.window(config.log.profile),
            self.workdir / "profile",
            start=self.start,
            total=self.total,
            say=self.terminal.say,
        )
        with (
            contextlib.closing(batches),
            contextlib.closing(trace),
            contextlib.closing(self.watchdog),
            jax.transfer_guard("disallow"),
        ):
            while True:
                # EVALUATE ON THE OLD STATE
                metric = None
                stopping = self.stop.reached()
                if step and not evaluated and not stopping:
                    with log.paused(), jax.transfer_guard("allow"):
                        try:
                            held_out = self._periodic_evaluation(step, log)
                            metric = held_out.get(config.checkpoint.best_metric)
                            evaluated = True
                        except Interrupted:
                            stopping = True

                # SAVE
                due = step % save_every == 0 or step == self.total or stopping or metric is not None
                if step > saved and due:
                    log.read_pending()
                    with log.paused(), jax.transfer_guard("allow"):
                        meta = {**self._identity(), **log.meta(), "position": position, "evaluated": evaluated}
                        self.checkpointer.save(step, self.state, meta, metric=metric)
                    saved = step
                if step >= self.total or stopping:
                    self.checkpointer.wait()
                    return step, stopping

                # NEXT BATCH, which is copied to the device while the step before still runs: that was started without
                # a wait, and so is the copy.
                waited = time.perf_counter()
                batch = next(batches)
                waited = time.perf_counter() - waited

                # STEP
                if log.compiles(batch):
                    log.read_pending()  # or compiling would be counted as the time of the step before
                trace.before_step(step, self.state)
                with jax.profiler.StepTraceAnnotation("train", step_num=step):
                    self.state, metrics = self.step_fn(self.state, sharding.to_global(batch, self.mesh, batch_size))
                step, position, evaluated = step + 1, position + batch_size, False

                # READ THE METRICS OF THE STEP BEFORE
                log.read_pending()
                self.watchdog.step_finished()
                log.pend(step, metrics, waited)

    # ------------------------------------------------------------------ evaluation

    def _periodic_evaluation(self, step: int, log: TrainLog) -> dict[str, float]:
        due = {
            name: section
            for name, section in self.config.evaluators.items()
            if section.every != "end" and (step % self._steps(section.every) == 0 or step == self.total)
        }
        if not due:
            return {}
        log.read_pending()
        values = self._evaluate(due, step)
        self.writer.write(step, values)
        log.watch_held_out(values.get(self.config.checkpoint.best_metric))
        self.terminal.say(f"step {step:,}: " + "  ".join(f"{name} {value:.4f}" for name, value in values.items()))
        return values

    def _final_evaluation(self) -> dict[str, float]:
        final = {name: section for name, section in self.config.evaluators.items() if section.every == "end"}
        results = _last_periodic(self.workdir, self.total)
        values = self._evaluate(final, self.total)
        if values:
            self.writer.write(self.total, values)
        results |= values
        if jax.process_index() == 0:
            metrics_file.write_results(self.workdir, self.total, results)
        return results

    def _evaluate(self, chosen: Mapping[str, Any], step: int) -> dict[str, float]:
        self.watchdog.pause()
        subject = Subject(
            objective=self.objective,
            params=self.state.evaluated,
            config=self.config,
            tokenizer=self.tokenizer,
            mesh=self.mesh,
            step=step,
            out=self._evaluations(step),
            should_stop=self.stop.reached,
        )
        return dict(evaluators.run(chosen, subject))

    def _summary(self, results: Mapping[str, float], step: int) -> str:
        return evaluators.summary(results, self._evaluations(step), list(self.config.evaluators))

    def _evaluations(self, step: int) -> epath.Path:
        return evaluations.of_step(self.workdir, step)

    # ------------------------------------------------------------------ small things

    def _steps(self, text: str) -> int:
        return steps(text, batch_size=self.config.data.batch_size, examples_per_epoch=len(self.source))

    def _identity(self) -> dict[str, Any]:
        """What a resume compares with."""
        return {
            "config": to_dict(self.config),
            "tokenizer": self.tokenizer.hash,
            "data": self.source.fingerprint,
            "bucket_run": self.bucket_run,
        }

    def _finished(self) -> dict[str, float] | None:
        if self.start < self.total:
            return None
        ended = metrics_file.read_results(self.workdir)  # what it held, if it is not there, is evaluated again
        if ended is not None and ended[0] == self.start:
            return ended[1]
        if self.start > self.total:
            raise ConfigError(
                f"duration={self.config.duration} ends at step {self.total:,}, but this workdir is at step "
                f"{self.start:,} already: give a longer one, or another --workdir"
            )
        return None


def _total_steps(config: sections.Config, step: int, position: int, records: int) -> int:
    """Steps at which the run ends; a duration in examples counts those already seen at another batch size."""
    amount, unit = duration.split(config.duration)
    if unit == "steps":
        return math.ceil(amount)
    examples = amount * (records if unit == "epochs" else 1)
    return step + max(math.ceil((examples - position) / config.data.batch_size), 0)


def _share_tokenizer(config: sections.Config, source: Source, workdir: epath.Path) -> Tokenizer:
    """The configured tokenizer; process 0 loads or trains it, and writes it for all."""
    path = workdir / checkpoint.TOKENIZER
    if jax.process_index() == 0:
        files.write(path, make_tokenizer(config, source).model_bytes)
    distributed.barrier("tokenizer")
    return Tokenizer.load(path)


def _check_tokenizer(model: str, stored: Tokenizer) -> None:
    """Raises ConfigError where tokenizer.model names another vocabulary; a file that is gone is not needed any more."""
    if model and epath.Path(model).exists():
        compatibility.check_tokenizer(stored, Tokenizer.load(model))


def _last_periodic(workdir: epath.Path, step: int) -> dict[str, float]:
    """The periodic evaluations of the last step, from the log, which has null for what is not finite."""
    lines = [line for line in metrics_file.read(workdir) if line["step"] == step]
    return {
        name: value
        for line in lines
        for name, value in metrics_file.with_nan(line).items()
        if not name.startswith("train/") and name != "step"
    }
