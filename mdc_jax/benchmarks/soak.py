"""Kills a run again and again and compares it with one that was left alone:

    python -m mdc_jax.benchmarks.soak --config=configs/scenes.py:runlocal --workdir=runs/soak --kills=50

The signals are SIGKILL, SIGTERM, and SIGSTOP with SIGCONT some time later; kinds and moments are drawn from --seed, a
part of them during the start of a process. Both runs must end with the same parameters, bit for bit, and the same
`metrics.jsonl`, no step missing or twice, clocks left out. The same command continues a soak that was interrupted.
With --out the signals, and what followed each, are written as a CSV file, where both runs ended so.
"""

import contextlib
import dataclasses
import itertools
import json
import os
import pathlib
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from typing import Any

import jax
import numpy as np
from absl import app, flags
from etils import epath

from mdc_jax import command
from mdc_jax.benchmarks import goodput
from mdc_jax.config import parse
from mdc_jax.report import tables
from mdc_jax.report.metrics_file import METRICS_FILE, read
from mdc_jax.training import checkpoint, distributed

EVENTS = "events.jsonl"
KINDS = (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP)
_WHILE_STARTING = 0.2  # share of the signals that do not wait for a step
_START_SECONDS = 8.0  # within which those come
_STEP_SECONDS = 0.05  # after its step is logged, within which a signal comes
_UNTIL = 0.8  # of the run; at its end it could be finished before the signal comes
_PAUSE_SECONDS = 2.0  # at most, from SIGSTOP to SIGCONT
# Of the CSV file: the step in the log when a signal came; that of the newest checkpoint when the process had ended; of
# a SIGTERM at work the time to the last step, and from there to the save.
_COLUMNS = (
    *("signal", "starting", "step", "code", "exit_seconds", "last_step_seconds", "save_seconds"),
    *("saved", "timed_steps", "timed_seconds", "seconds"),
)
# What is different in every run.
_CLOCKS = (
    "data_wait_seconds",
    "seconds",
    "productive_seconds",
    "images_per_second",
    "step_seconds",
    "seconds_left",
    "goodput",
    "mfu",
)


class SoakFailed(RuntimeError):
    """The disturbed run is not what the other one is, or did not survive a signal."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """One signal: sent `delay` seconds after the log has reached `step`, or after the start where that is None."""

    kind: signal.Signals
    step: int | None
    delay: float
    pause: float


def plan(number: int, kills: int, steps: int, seed: int) -> Plan:
    """The signal of a number in [0, kills): in its part of a run of so many steps, or while a process starts."""
    rng = random.Random(f"{seed} {number}")
    kind, pause = rng.choice(KINDS), rng.uniform(0, _PAUSE_SECONDS)
    if rng.random() < _WHILE_STARTING:
        return Plan(kind, None, rng.uniform(0, _START_SECONDS), pause)
    step = (number + rng.random()) / kills * _UNTIL * steps
    return Plan(kind, int(step), rng.uniform(0, _STEP_SECONDS), pause)


class Run:
    """A run in processes of their own, which are started again when they end before it is finished."""

    def __init__(self, arguments: Sequence[str], workdir: pathlib.Path, pauses: Collection[int]) -> None:
        self._command = [sys.executable, "-m", "mdc_jax.main", *arguments, f"--workdir={workdir}"]
        self._workdir, self._log = workdir, workdir / METRICS_FILE
        self._output = workdir.parent / f"{workdir.name}.txt"
        self._process: subprocess.Popen[bytes] | None = None
        self._stopwatch = goodput.Stopwatch(pauses)

    def disturb(self, what: Plan) -> dict[str, Any]:
        """Waits for the moment, sends the signal and returns what followed; raises SoakFailed."""
        begin, at_work = time.monotonic(), self._process is not None
        process = self._start()
        while what.step is not None and process.poll() is None and self._step() < what.step:
            time.sleep(0.01)
        if what.step is not None or not at_work:
            time.sleep(what.delay)
        step, sent = self._step(), time.monotonic()
        process.send_signal(what.kind)
        followed = {"signal": what.kind.name, "starting": what.step is None, "step": step}
        if what.kind == signal.SIGSTOP:
            time.sleep(what.pause)
            process.send_signal(signal.SIGCONT)
        else:
            until = self._wait(process, sent)
            code, self._process = process.returncode, None
            # A process that has not come as far as to have something to save ends at SIGTERM as any other does.
            killed = code == -what.kind and (what.kind == signal.SIGKILL or what.step is None)
            if code != distributed.STOPPED and not killed:
                raise SoakFailed(
                    f"{what.kind.name} at step {step}: exit code {code}, see {self._output}; 0: the run finished "
                    "before, give it a longer --config.duration"
                )
            followed |= {"code": code, "exit_seconds": time.monotonic() - sent, **self._ended()}
            followed |= until if code == distributed.STOPPED else {}
        return {**followed, "seconds": time.monotonic() - begin}

    def finish(self) -> dict[str, Any]:
        """Leaves the run alone until its end, and returns its seconds; raises SoakFailed."""
        begin, process = time.monotonic(), self._start()
        while process.poll() is None:
            self._step()
            time.sleep(0.01)
        code, self._process = process.returncode, None
        if code:
            raise SoakFailed(f"left alone, the run ended with code {code}, see {self._output}")
        return {"signal": "", **self._ended(), "seconds": time.monotonic() - begin}

    def close(self) -> None:
        """Leaves no process behind."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._changed = self._log_changed()
            self._stopwatch.start(self._logged())
            with self._output.open("a") as output:
                self._process = subprocess.Popen(self._command, stdout=output, stderr=output)
        return self._process

    def _step(self) -> int:
        """The last step in the log; 0 until the present process has written there."""
        if self._log_changed() == self._changed:
            return 0
        step = self._logged()
        self._stopwatch.see(step, time.monotonic())
        return step

    def _log_changed(self) -> int:
        return self._log.stat().st_mtime_ns if self._log.exists() else 0

    def _logged(self) -> int:
        """The last step in the log, of which only the end is read."""
        if not self._log.exists():
            return 0
        with open(self._log, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 10_000))
            found = re.findall(rb'^{"step": (\d+), .*}$', file.read(), re.MULTILINE)
        return int(found[-1]) if found else 0

    def _saved(self) -> int:
        """The step of the newest checkpoint that is whole; 0 where there is none."""
        names = (path.name for path in (self._workdir / checkpoint.CHECKPOINTS).glob("*"))
        return max((int(name) for name in names if name.isdigit()), default=0)

    def _wait(self, process: subprocess.Popen[bytes], sent: float) -> dict[str, float]:
        """Waits for the end of a process; the seconds from a signal to its last step, and from there to its save."""
        step, saved = self._logged(), self._saved()
        stepped_at = saved_at = sent
        while process.poll() is None:
            if (now := self._logged()) != step:
                step, stepped_at = now, time.monotonic()
            if (now := self._saved()) != saved:
                saved, saved_at = now, time.monotonic()
            time.sleep(0.01)
        return {"last_step_seconds": stepped_at - sent, "save_seconds": max(saved_at - stepped_at, 0.0)}

    def _ended(self) -> dict[str, float]:
        """The step of the newest checkpoint that is whole, and what was timed."""
        saved = self._saved()
        return {"saved": saved, **self._stopwatch.timed(saved)}


def soak(
    arguments: Sequence[str], workdir: pathlib.Path, *, pauses: Collection[int], kills: int, seed: int
) -> list[dict[str, Any]]:
    """Trains undisturbed and disturbed, and compares; returns the signals and what followed each.

    For `pauses` see `goodput.Stopwatch`. Raises SoakFailed where the two differ, and where a run fails.
    """
    undisturbed, disturbed = workdir / "undisturbed", workdir / "disturbed"
    workdir.mkdir(parents=True, exist_ok=True)
    Run(arguments, undisturbed, pauses).finish()
    total = checkpoint.steps(undisturbed)[-1]
    path = workdir / EVENTS
    events = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    with contextlib.closing(Run(arguments, disturbed, pauses)) as run, open(path, "a") as file:
        for number in range(len(events), kills):
            events.append(run.disturb(plan(number, kills, total, seed)))
            file.write(json.dumps(events[-1]) + "\n")
            file.flush()
            print(f"{number + 1} of {kills}: {json.dumps(events[-1])}", flush=True)
        if len(events) == kills:
            events.append(run.finish())
            file.write(json.dumps(events[-1]) + "\n")
    compare(undisturbed, disturbed)
    return events


def compare(expected: pathlib.Path, got: pathlib.Path) -> None:
    """Raises SoakFailed for parameters or lines of the log that are not the same in two runs."""
    for number, (line, other) in enumerate(itertools.zip_longest(_log(expected), _log(got))):
        if line != other:
            raise SoakFailed(f"line {number} of metrics.jsonl is {other}, not {line}")
    params, others = (checkpoint.load(run) for run in (expected, got))
    if params.step != others.step:
        raise SoakFailed(f"the last checkpoint is of step {others.step}, not {params.step}")
    leaves = jax.tree_util.tree_leaves_with_path(params.params)
    for (path, leaf), other in zip(leaves, jax.tree.leaves(others.params), strict=True):
        if not np.array_equal(np.asarray(leaf), np.asarray(other), equal_nan=True):
            raise SoakFailed(f"the parameters {jax.tree_util.keystr(path)} differ")


def _log(workdir: pathlib.Path) -> list[dict[str, float]]:
    clocks = {f"train/{name}" for name in _CLOCKS}
    return [{name: value for name, value in line.items() if name not in clocks} for line in read(epath.Path(workdir))]


def describe(events: Sequence[dict[str, Any]], workdir: pathlib.Path) -> str:
    """How long processes took to end, and what the interruptions cost."""
    rows = []
    for kind in KINDS:
        sent = [event for event in events if event["signal"] == kind.name]
        at_work = [event for event in sent if not event["starting"]]
        times = [event["exit_seconds"] for event in at_work if "exit_seconds" in event]
        ends = [f"{statistics.median(times):.2f} s", f"{max(times):.2f} s"] if times else ["", ""]
        rows.append([kind.name, str(len(at_work)), str(len(sent) - len(at_work)), *ends])
    asked = [event for event in events if "save_seconds" in event]
    parts = {
        "to its last step": [event["last_step_seconds"] for event in asked],
        "where a step takes": [e["timed_seconds"] / e["timed_steps"] for e in asked if e["timed_steps"]],
        "from there to the save": [event["save_seconds"] for event in asked],
    }
    ends = ", ".join(f"{name} {statistics.median(times):.2f} s" for name, times in parts.items() if times)
    header = ["signal", "at work", "while starting", "median time to end", "longest"]
    log = read(epath.Path(workdir) / "disturbed")
    found = goodput.of(events, log)
    return (
        f"{tables.markdown(header, rows)}\n"
        + (f"a process that was asked to end, in the median: {ends}\n" if asked else "")
        + f"identical: the parameters, and {len(log):,} lines of metrics.jsonl\n"
        f"goodput over {found.seconds:,.0f} s with all starts: {found.by_the_log:.1%} by the log of the run, "
        f"{found.by_the_clock:.1%} by this command's clock"
    )


def write(path: epath.Path, events: Sequence[dict[str, Any]]) -> None:
    """Writes a row for each signal, and one for the end, as a CSV file; cells that do not apply are empty."""
    tables.write_csv(path, _COLUMNS, [[event.get(name, "") for name in _COLUMNS] for event in events])


def config_arguments(arguments: Sequence[str]) -> list[str]:
    """Those of a command that are of the config, also where a value is an argument of its own."""
    found = []
    for before, argument in zip(["", *arguments], arguments, strict=False):
        is_value = before.startswith("--config") and "=" not in before and not argument.startswith("--")
        if is_value or argument.startswith("--config"):
            found.append(argument)
    return found


def main(_: list[str]) -> None:
    options = flags.FLAGS
    config = parse(command.given_config("configs/scenes.py:runlocal"))
    out = command.place("out", options.out)
    arguments = config_arguments(sys.argv[1:])
    workdir = pathlib.Path(options.workdir).absolute()
    events = soak(arguments, workdir, pauses=goodput.pauses(config), kills=options.kills, seed=options.seed)
    print(f"\n{describe(events, workdir)}")
    if out:
        write(out, events)


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "Where both runs go, on a local disk.", required=True)
    flags.DEFINE_integer("kills", 50, "Signals that are sent.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Of their kinds and moments.")
    flags.DEFINE_string("out", "", "A CSV file for the signals and what followed each.")
    command.define_config()
    app.run(command.reported(main, SoakFailed), flags_parser=command.parse_flags)
