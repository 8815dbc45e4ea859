"""What training reports while it runs."""

import contextlib
import math
import statistics
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from mdc_jax.objectives.base import divided_by_shares
from mdc_jax.training.accounting import Cost
from mdc_jax.training.metric_writer import MetricWriter, Terminal


class NonFiniteError(RuntimeError):
    """Loss or gradient norm became NaN or infinite."""


class TrainLog:
    """Metrics, read one step late so that the device never waits for the host, and averaged between reports."""

    def __init__(
        self,
        writer: MetricWriter,
        terminal: Terminal,
        *,
        every: int,
        batch_size: int,
        meta: Mapping[str, Any],
        cost: Cost,
    ) -> None:
        self._writer, self._terminal, self._every, self._batch_size = writer, terminal, every, batch_size
        self._cost = cost
        self._pending: tuple[int, Mapping[str, jax.Array], float] | None = None
        self._window: list[dict[str, float]] = list(meta["window"])
        self._seconds = meta["seconds"]  # of training, over all starts
        self._start = self._mark = time.perf_counter()
        self._lengths: set[float | None] = set()  # of texts, for which this start has compiled the step
        self._timed_steps, self._timed_from = 0, meta.get("productive", 0.0)  # since the last report
        # See "Goodput" in the README beside this file.
        self._productive = self._productive_before = meta.get("productive", 0.0)
        self._counted: float | None = None  # seconds of training when a step was last counted
        self._history: list[tuple[float, float]] = meta.get("history", [])  # (train, held-out loss) at evaluations
        self._train_loss = math.nan

    def compiles(self, batch: Mapping[str, Any]) -> bool:
        """Whether the step of a batch is the first of its length in this start, which `read_pending` leaves out."""
        return (batch["text"].shape[-1] if "text" in batch else None) not in self._lengths

    def pend(self, step: int, metrics: Mapping[str, jax.Array], waited: float) -> None:
        self._pending = (step, metrics, waited)

    def read_pending(self) -> None:
        if self._pending is None:
            return
        step, metrics, waited = self._pending
        self._pending = None
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        if not all(math.isfinite(values[name]) for name in ("loss", "grad_norm", "param_norm")):
            raise NonFiniteError(
                f"step {step}: loss {values['loss']}, gradient norm {values['grad_norm']}, norm of the new parameters "
                f"{values['param_norm']}, learning rate {values['learning_rate']:.3g}; nothing of this step was saved. "
                "Lower optimizer.lr or lengthen optimizer.warmup, and start again: the run continues from its last "
                "checkpoint"
            )
        self._window.append({**values, "data_wait_seconds": waited})
        self._tick()
        length = values.get("text_tokens")
        if length in self._lengths:
            self._productive += self._seconds - self._counted
            self._timed_steps += 1
        self._lengths.add(length)
        self._counted = self._seconds
        if step % self._every == 0:
            self._report(step)

    def _report(self, step: int) -> None:
        # The first entries may be those of a start by another version, which had other metrics.
        names = [name for name in self._window[-1] if all(name in entry for entry in self._window)]
        mean = divided_by_shares({name: statistics.fmean(entry[name] for entry in self._window) for name in names})
        self._train_loss = mean["loss"]
        if mean["grad_norm"] == 0:
            self._terminal.say(
                f"warning: no gradient since the last report (step {step:,}): no token was masked, or no record could "
                "be used, so that nothing was learned"
            )
        mean |= {"seconds": self._seconds, "productive_seconds": self._productive}
        speed = self._speed(step)
        self._timed_steps, self._timed_from = 0, self._productive
        self._window = []
        if speed and (mfu := self._cost.mfu(mean, speed["images_per_second"])) is not None:
            speed["mfu"] = mfu
        self._writer.write(step, {f"train/{name}": value for name, value in {**mean, **speed}.items()})
        self._terminal.report(step, mean["loss"], speed.get("images_per_second"))

    def _speed(self, step: int) -> dict[str, float]:
        """What this start measured since its last report, without steps that compiled: the window may begin in an
        earlier start."""
        steps, seconds = self._timed_steps, self._productive - self._timed_from
        if not steps:
            return {}
        images_per_second = steps * self._batch_size / max(seconds, 1e-9)
        return {
            "images_per_second": images_per_second,
            "step_seconds": seconds / steps,
            "seconds_left": (self._terminal.total_steps - step) * self._batch_size / images_per_second,
            "goodput": (self._productive - self._productive_before) / (time.perf_counter() - self._start),
        }

    def watch_held_out(self, loss: float | None) -> None:
        """Warns when the held-out loss has risen twice in a row while the training loss fell."""
        if loss is None:
            return
        self._history = [*self._history[-2:], (self._train_loss, loss)]
        if len(self._history) == 3:
            (train0, held0), (_, held1), (train2, held2) = self._history
            if held0 < held1 < held2 and train2 < train0:
                self._terminal.say(
                    f"warning: held-out loss rose from {held0:.4f} to {held2:.4f} while the training loss fell: "
                    "the model memorises its captions; the best checkpoint is kept"
                )

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stops the watch during what is not training."""
        self._tick()
        yield
        self._mark = time.perf_counter()

    def meta(self) -> dict[str, Any]:
        """What a checkpoint stores, so that the log goes on as if nothing had happened."""
        self._tick()
        return {
            "window": self._window,
            "seconds": self._seconds,
            "productive": self._productive,
            "history": self._history,
        }

    def _tick(self) -> None:
        now = time.perf_counter()
        self._seconds += now - self._mark
        self._mark = now
