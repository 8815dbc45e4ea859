"""Runs one after the other: what is done is not done again, what was stopped goes on, what is too short is extended."""

import json
import statistics
import time
from collections.abc import Callable, Mapping

import jax
from etils import epath

from mdc_jax.comparison.entries import total_steps
from mdc_jax.config import ConfigError, sections
from mdc_jax.training import compatibility, loop
from mdc_jax.training.metric_writer import clock


def train(
    runs: Mapping[epath.Path, sections.Config],
    *,
    before: Callable[[epath.Path], None] = lambda _: None,
    after: Callable[[epath.Path], None] = lambda _: None,
) -> bool:
    """Trains the run of each workdir; returns False where a signal stopped one.

    `before` is called with the workdir of each run that is to be trained, `after` with that of every run that is
    finished. Raises ConfigError for a workdir that holds another run, and what training raises.
    """
    to_do = [workdir for workdir, config in runs.items() if not is_finished(workdir, config)]
    took: list[float] = []
    for number, (workdir, config) in enumerate(runs.items(), 1):
        if workdir in to_do:
            left = len(to_do) - len(took)
            eta = f"; {clock(statistics.fmean(took) * left)} left for {left} runs" if took else ""
            print(f"\nrun {number} of {len(runs)}: {workdir}{eta}", flush=True)
            before(workdir)
            started = time.monotonic()
            if loop.train(config, workdir) is None:
                return False
            took.append(time.monotonic() - started)
            jax.clear_caches()  # every run compiles all that it needs, so that their seconds can be compared
        else:
            print(f"run {number} of {len(runs)}: {workdir} is finished", flush=True)
        after(workdir)
    return True


def is_finished(workdir: epath.Path, config: sections.Config) -> bool:
    """Whether a workdir holds the finished run of a config, whose duration is in steps.

    Raises ConfigError where it holds a finished run of other settings.
    """
    try:
        done = json.loads((workdir / loop.RESULTS_FILE).read_text())["step"]
        stored = json.loads((workdir / loop.CONFIG_FILE).read_text())
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return False  # not there, or damaged
    if done < total_steps(config):
        return False
    differences = compatibility.check_resume(stored, config)
    if differences:
        raise ConfigError(
            f"{workdir} holds a finished run of other settings: {'; '.join(differences)}. Use another --workdir, or "
            "set these back"
        )
    if done > total_steps(config):
        raise ConfigError(
            f"{workdir} is at step {done:,} already, and the comparison ends at {total_steps(config):,}: give more "
            "steps, or another --workdir"
        )
    return True
