"""Metrics to JSON lines, TensorBoard, Weights & Biases and the terminal, from process 0."""

import json
import sys
import time
import uuid
from collections.abc import Mapping
from typing import Any

import jax
from etils import epath

from mdc_jax import files
from mdc_jax.config import ConfigError
from mdc_jax.report.metrics_file import METRICS_FILE, read, without_nan

WANDB_ID = "wandb_id.txt"  # in the workdir


class MetricWriter:
    """Appends one JSON object a line to `metrics.jsonl`; after a resume the lines beyond `step` are written anew."""

    def __init__(self, workdir: epath.Path, *, step: int, tensorboard: bool, wandb: str = "") -> None:
        """`wandb` is the project at Weights & Biases, "" none; raises ConfigError where its package is missing."""
        self._active = jax.process_index() == 0
        self._tensorboard = self._wandb = None
        if not self._active:
            return
        self._path = workdir / METRICS_FILE
        kept = [line for line in read(workdir) if line["step"] <= step]
        files.write(self._path, _text(kept))
        # Buckets cannot be appended to: there the file is written whole.
        self._lines = kept
        self._local = self._path.open("a") if "://" not in str(self._path) else None
        if tensorboard:
            from tensorboardX import SummaryWriter  # slow to import

            self._tensorboard = SummaryWriter(str(workdir / "tensorboard"), purge_step=step + 1)
        if wandb:
            self._wandb = _wandb_run(wandb, workdir)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        if not self._active:
            return
        line = {"step": step, **without_nan(metrics)}
        if self._local:
            self._local.write(json.dumps(line) + "\n")
            self._local.flush()
        else:
            self._lines.append(line)
            files.write(self._path, _text(self._lines))
        if self._tensorboard:
            for name, value in metrics.items():
                self._tensorboard.add_scalar(name, value, step)
        if self._wandb:
            self._wandb.log(dict(metrics), step=step)

    def close(self) -> None:
        if self._active and self._local:
            self._local.close()
        if self._tensorboard:
            self._tensorboard.close()
        if self._wandb:
            self._wandb.finish()


def _wandb_run(project: str, workdir: epath.Path) -> Any:
    """The run that belongs to `workdir`: a resumed one goes on with it."""
    try:
        import wandb
    except ImportError as error:
        raise ConfigError(
            f'log.wandb="{project}", but Weights & Biases is not installed: '
            'pip install -r requirements-wandb.txt, or set log.wandb=""'
        ) from error
    identity = workdir / WANDB_ID
    if not identity.exists():
        files.write(identity, uuid.uuid4().hex)
    return wandb.init(project=project, name=workdir.name, id=identity.read_text(), resume="allow")


def _text(lines: list[dict[str, float]]) -> str:
    return "".join(json.dumps(line) + "\n" for line in lines)


class Terminal:
    """One line a report on the terminal: share done, loss, speed, time left."""

    def __init__(self, total_steps: int, batch_size: int) -> None:
        self.total_steps, self.batch_size = total_steps, batch_size
        self._active = jax.process_index() == 0
        self._rewrite = sys.stdout.isatty()

    def report(self, step: int, loss: float, images_per_second: float | None) -> None:
        line = f"step {step:,}/{self.total_steps:,} ({step / self.total_steps:.0%})  loss {loss:.4f}"
        if images_per_second:
            left = (self.total_steps - step) * self.batch_size / images_per_second
            line += f"  {images_per_second:,.0f} images/s  {clock(left)} left"
        if self._active:
            print(f"\r{line:<79}" if self._rewrite else line, end="" if self._rewrite else "\n", flush=True)

    def say(self, text: str) -> None:
        if self._active:
            print(f"\r{text:<79}" if self._rewrite else text, flush=True)


def clock(seconds: float) -> str:
    """Seconds as hh:mm:ss, or as days from a day on."""
    return time.strftime("%H:%M:%S", time.gmtime(seconds)) if seconds < 86_400 else f"{seconds / 86_400:.1f} days"
