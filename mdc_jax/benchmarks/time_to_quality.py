"""What a setting is worth in accuracy for the time that it takes.

    python -m mdc_jax.benchmarks.time_to_quality --config=configs/scenes.py:steps=6000 --workdir=runs/quality --seeds=3

Trains each variant of a config for each seed, all for equally many steps, and probes it on the way. Seconds are
the stopwatch of training, which stands still during probes: give it cores of its own. Compiled programs are not kept,
or a second seed would seem faster than the first. A finished run is not run again, one that was stopped goes on.
After every run WORKDIR/time_to_quality.{csv,svg,md} are written anew.

--variant="NAME KEY=VALUE ..." is a variant of one's own, as in --variant="buckets data.buckets=(10,14,18)".
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np
from absl import app, flags
from etils import epath

from mdc_jax import command
from mdc_jax.comparison import entries, sequence
from mdc_jax.config import ConfigError, parse, sections, steps
from mdc_jax.config.parse import did_you_mean
from mdc_jax.data.pipeline import DATA_ERRORS
from mdc_jax.data.sources import open_source
from mdc_jax.report import learning_curves
from mdc_jax.report.metrics_file import read, with_nan
from mdc_jax.training.train_log import NonFiniteError

# What each sets beside the config; differences are to the first.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "as_configured": {},
    "token_keep_.5": {"model.encoder.token_keep": 0.5},
    "memory_keep_.5": {"model.decoder.memory_keep": 0.5},
    "2_masks": {"objective.masks_per_caption": 2},
    "4_masks": {"objective.masks_per_caption": 4},
    "bernoulli": {"objective.masks": "bernoulli"},
    "interval_0_1": {"objective.interval": (0.0, 1.0), "objective.masks": "size_biased"},
    "interval_0_1_bernoulli": {"objective.interval": (0.0, 1.0), "objective.masks": "bernoulli"},
    "interval_0_1_stratified": {"objective.interval": (0.0, 1.0), "objective.masks": "stratified"},
    "interval_.2_1": {"objective.interval": (0.2, 1.0)},
    "interval_.5_1": {"objective.interval": (0.5, 1.0)},
    "padding_hidden": {"objective.padding": "hidden"},
    "padding_target": {"objective.padding": "target"},
    "padding_known": {"objective.padding": "known"},
}


def variant(text: str) -> tuple[str, dict[str, Any]]:
    """Reads "NAME KEY=VALUE ..." as a name and its settings; raises ConfigError where it is not of this form."""
    name, *items = text.split()
    if not items or not all("=" in item for item in items):
        raise ConfigError(
            f'--variant="{text}": write NAME KEY=VALUE ..., as in "2_masks objective.masks_per_caption=2"'
        )
    settings = dict(item.split("=", 1) for item in items)
    return name, {key: command.literal(value) for key, value in settings.items()}


def distinct(
    config: ml_collections.ConfigDict,
    names: Sequence[str],
    variants: Mapping[str, Mapping[str, Any]] = VARIANTS,
) -> dict[str, ml_collections.ConfigDict]:
    """The named variants of a config, without those that repeat an earlier one; no name: all.

    Raises ConfigError for a name or a setting that does not exist.
    """
    found: dict[str, ml_collections.ConfigDict] = {}
    for name in names or variants:
        if name not in variants:
            raise ConfigError(f'--only: no variant "{name}"{did_you_mean(name, variants)}')
        changed = entries.changed(config, variants[name], f'variant "{name}"')
        if changed not in found.values():
            found[name] = changed
    return found


def probed(config: ml_collections.ConfigDict, seed: int, points: int) -> sections.Config:
    """The config of a run with `seed` that probes, saves and logs at `points` equal distances, and does no more.

    Raises ConfigError where it has no linear probe.
    """
    changed, settings = config.copy_and_resolve_references(), parse(config)
    records = len(open_source(settings.data.train))
    total = steps(settings.duration, batch_size=settings.data.batch_size, examples_per_epoch=records)
    every = max(total // points, 1)
    with changed.unlocked():
        for name, entry in settings.evaluators.items():
            if not isinstance(entry, sections.LinearProbe):
                del changed.evaluators[name]
    if not changed.evaluators:
        raise ConfigError('evaluators: there is no linear probe to measure by: add evaluator("linear_probe")')
    for probe in changed.evaluators.values():
        probe.every, probe.baselines = f"{every} steps", False
    changed.seed, changed.duration = seed, f"{every * points} steps"
    changed.checkpoint.every = changed.log.every = f"{every} steps"
    changed.checkpoint.keep_latest, changed.checkpoint.keep_best = 1, 0
    changed.log.tensorboard = False
    return parse(changed)


def curves(workdir: epath.Path) -> learning_curves.Curves:
    """What the probes of a run found, and their mean, against steps and seconds of training."""
    lines = [with_nan(line) for line in read(workdir)]
    seconds = {line["step"]: line["train/seconds"] for line in lines if "train/seconds" in line}
    found: dict[str, list[tuple[float, ...]]] = {}
    for line in lines:
        values = {key: value for key, value in line.items() if key != "step" and not key.startswith("train/")}
        if values:
            for metric, value in {learning_curves.MEAN: statistics.fmean(values.values()), **values}.items():
                found.setdefault(metric, []).append((line["step"], seconds[line["step"]], value))
    return {metric: np.array(curve) for metric, curve in found.items()}


def run(variants: Mapping[str, ml_collections.ConfigDict], workdir: epath.Path, *, seeds: int, points: int) -> bool:
    """Trains what is not trained yet; returns False where a signal stopped it."""
    # Seeds are the outer loop, so that what is there early can be compared.
    runs = {(name, seed): probed(changed, seed, points) for seed in range(seeds) for name, changed in variants.items()}
    folders = {workdir / name / f"seed{seed}": (name, seed) for name, seed in runs}
    found: dict[str, dict[int, learning_curves.Curves]] = {}

    def join(folder: epath.Path) -> None:
        name, seed = folders[folder]
        found.setdefault(name, {})[seed] = curves(folder)
        learning_curves.write(workdir / "time_to_quality.csv", found)

    return sequence.train({folder: runs[run] for folder, run in folders.items()}, after=join)


def main(_: list[str]) -> None:
    options = flags.FLAGS
    workdir = epath.Path(options.workdir)
    config = command.given_config("configs/scenes.py")
    variants = distinct(config, options.only, {**VARIANTS, **dict(map(variant, options.variant))})
    if run(variants, workdir, seeds=options.seeds, points=options.points):
        print(f"\n{(workdir / 'time_to_quality.md').read_text()}\npicture: {workdir / 'time_to_quality.svg'}")


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "Where the runs and their results go.", required=True)
    flags.DEFINE_integer("seeds", 3, "Runs of each variant.", lower_bound=1)
    flags.DEFINE_integer("points", 8, "Probes of each run.", lower_bound=1)
    flags.DEFINE_list("only", [], f"Which of the variants {', '.join(VARIANTS)}; differences are to the first.")
    flags.DEFINE_multi_string("variant", [], "NAME KEY=VALUE ...: one more variant; can be given several times.")
    command.define_config()
    app.run(command.reported(main, NonFiniteError, *DATA_ERRORS), flags_parser=command.parse_flags)
