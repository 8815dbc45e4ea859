"""Runs one after the other: what is done is not done again, what was stopped goes on, what is too short is extended."""

import statistics
import time
from collections.abc import Callable, Mapping

import jax
from etils import epath

from mdc_jax import files, lock
from mdc_jax.comparison import provenance, same_run
from mdc_jax.comparison.entries import total_steps
from mdc_jax.config import ConfigError, parse, sections
from mdc_jax.report import metrics_file
from mdc_jax.training import loop
from mdc_jax.training.metric_writer import clock
from mdc_jax.training.train_log import NonFiniteError

DIVERGED_FILE = "diverged.txt"


def train(runs: Mapping[epath.Path, sections.Config], *, after: Callable[[epath.Path], None] = lambda _: None) -> bool:
    """Trains the run of each workdir; returns False where a signal stopped one.

    `after` is called with the workdir of every run that is finished. Raises ConfigError for a workdir that holds
    another run; NonFiniteError for a run that diverges, which is noted in its workdir, or has done so; and what
    training raises.
    """
    to_do = [workdir for workdir, config in runs.items() if not is_finished(workdir, config)]
    took: list[float] = []
    for number, (workdir, config) in enumerate(runs.items(), 1):
        if workdir in to_do:
            left = len(to_do) - len(took)
            eta = f"; {clock(statistics.fmean(took) * left)} left for {left} runs" if took else ""
            print(f"\nrun {number} of {len(runs)}: {workdir}{eta}", flush=True)
            started = time.monotonic()
            if not _train(workdir, config):
                return False
            took.append(time.monotonic() - started)
            jax.clear_caches()  # every run compiles all that it needs, so that their seconds can be compared
        else:
            print(f"run {number} of {len(runs)}: {workdir} is finished", flush=True)
        after(workdir)
    return True


def is_begun(workdir: epath.Path, config: sections.Config) -> bool:
    """Whether a workdir holds the run of a config, of however many steps; raises ConfigError where it holds another."""
    stored = files.read_json(workdir / loop.CONFIG_FILE, missing_if_damaged=True)
    if stored is not None:
        same_run.check(workdir, stored, config)
    return stored is not None


def is_finished(workdir: epath.Path, config: sections.Config) -> bool:
    """Whether a workdir holds the finished run of a config, whose duration is in steps.

    Raises ConfigError where it holds another run, finished or not, or one that is longer.
    """
    if not is_begun(workdir, config):
        return False
    done, total = ended_at(workdir), total_steps(config)
    if done > total:
        raise ConfigError(
            f"{workdir} is at step {done:,} already, and the comparison ends at {total:,}: give more steps, or another "
            "--workdir"
        )
    return done == total


def stored_config(workdir: epath.Path) -> sections.Config:
    """The config that the run of a workdir was last started with; raises ConfigError where that is gone, or damaged."""
    stored = files.read_json(workdir / loop.CONFIG_FILE)
    if stored is None:
        raise ConfigError(f"{workdir / loop.CONFIG_FILE} is gone, which this run had written: copy it again")
    return parse(stored)


def ended_at(workdir: epath.Path) -> int:
    """The step at which the run of a workdir was evaluated to the end; 0 where it was not yet."""
    ended = metrics_file.read_results(workdir)
    return ended[0] if ended else 0


def diverged(workdir: epath.Path) -> str:
    """What was said when the run of a workdir diverged; "" where it did not."""
    path = workdir / DIVERGED_FILE
    return path.read_text().strip() if path.exists() else ""


def _train(workdir: epath.Path, config: sections.Config) -> bool:
    if reason := diverged(workdir):
        raise NonFiniteError(f"{reason}\n{workdir / DIVERGED_FILE} has noted this: remove it to try again")
    workdir.mkdir(parents=True, exist_ok=True)
    with lock.hold(workdir):  # what another process is at work on is not started
        provenance.record(workdir, config)
    try:
        return loop.train(config, workdir) is not None
    except NonFiniteError as error:
        files.write(workdir / DIVERGED_FILE, f"{error}\n")
        raise
