"""Trains and evaluates several objectives on equal terms: the paper's claims are comparisons.

    python -m mdc_jax.compare --config=configs/compare_scenes.py:quick --workdir=runs/quick

The same command goes on after it was stopped, skips what is done, and extends finished runs where the config asks for
more steps. --only=2/4 does the second of four parts, and

    python -m mdc_jax.compare --config=... --workdir=runs/all --merge machine1 machine2 ...

joins them. --plan trains nothing: it prints commands, memory and hours. See `mdc_jax/comparison/README.md`.
"""

import pathlib
import re
import sys
from collections.abc import Sequence

from absl import app, flags
from etils import epath
from ml_collections import config_flags

from mdc_jax import command, evaluators
from mdc_jax.comparison import budget, collect, estimate, merge, plan, provenance, sequence, settings, tuning
from mdc_jax.comparison.settings import Comparison
from mdc_jax.config import ConfigError
from mdc_jax.config.parse import did_you_mean
from mdc_jax.data.pipeline import ReadError, TooManyBadRecords
from mdc_jax.training import compilation_cache, distributed
from mdc_jax.training.failures import Failure
from mdc_jax.training.train_log import NonFiniteError


def chosen(comparison: Comparison, only: str, run: str) -> list[plan.Run]:
    """The runs that this process is asked for, in order; raises ConfigError for a part or a run that there is not."""
    every = plan.runs(comparison, list(comparison.entries))
    if run:
        names = {one.name: one for one in every}
        if run not in names:
            raise ConfigError(f"--run={run}: there is no such run{did_you_mean(run, names)}")
        blind = plan.blind_run(comparison, names[run])
        return [*([blind] if blind else []), names[run]]
    if not only:
        return every
    match = re.fullmatch(r"(\d+)/(\d+)", only)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise ConfigError(f"--only={only}: write PART/PARTS, as in 2/4")
    return plan.runs(comparison, plan.share(comparison, int(match[1]), int(match[2])))


def check(comparison: Comparison, runs: Sequence[plan.Run]) -> None:
    """Raises ConfigError for an entry that could not be trained or evaluated, before hours are spent on others."""
    nowhere = epath.Path("/nonexistent")
    for name in dict.fromkeys(run.entry for run in runs):
        unscored = settings.without_blind(comparison, name)
        evaluators.check(plan.config_of(unscored, plan.Run(name, 0), nowhere, comparison.steps))


def main(arguments: Sequence[str]) -> None:
    options, flag = flags.FLAGS, flags.FLAGS["config"]
    comparison, workdir = settings.parse(options.config), epath.Path(options.workdir)
    config, overrides = config_flags.get_config_filename(flag), config_flags.get_override_values(flag)
    if arguments[1:] and not options.merge:
        raise ConfigError(f"unexpected arguments {' '.join(arguments[1:])}: --merge takes folders")
    runs = chosen(comparison, options.only, options.run)
    if options.plan:
        print(estimate.text(comparison, runs, options.topology, options.mfu))
        return
    workdir.mkdir(parents=True, exist_ok=True)
    if options.merge:
        copied = merge.merge([pathlib.Path(folder) for folder in arguments[1:]], pathlib.Path(workdir))
        print("\n".join(f"copied {folder}" for folder in copied))
    check(comparison, runs)
    compilation_cache.enable()
    names = list(dict.fromkeys(run.entry for run in runs))
    steps = budget.steps(comparison, workdir, names)
    if steps is None:
        sys.exit(distributed.STOPPED)
    for name in names:
        if comparison.is_tuned(name) and tuning.choose(comparison, workdir, name, steps=steps[name]) is None:
            sys.exit(distributed.STOPPED)

    def write(_: epath.Path = workdir) -> None:
        plan.write(comparison, workdir, steps, config=config, overrides=overrides)
        collect.write(workdir)

    write()
    print(plan.describe(comparison, workdir, steps), flush=True)
    configs = {run.folder(workdir): plan.config_of(comparison, run, workdir, steps[run.entry]) for run in runs}
    if not sequence.train(configs, before=lambda folder: provenance.record(folder, configs[folder]), after=write):
        sys.exit(distributed.STOPPED)
    print(f"\n{len(runs)} runs are finished; every number: {workdir / collect.RESULTS_FILE}")


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "Where runs, plan and results go; a second start goes on.", required=True)
    flags.DEFINE_string("only", "", "PART/PARTS, as in 2/4: a part of the entries, for one of several machines.")
    flags.DEFINE_string("run", "", "ENTRY/seedN: one run, with the decoder without images that it is scored beside.")
    flags.DEFINE_bool("merge", False, "Joins the workdirs given as arguments into --workdir, and goes on there.")
    flags.DEFINE_bool("plan", False, "Trains nothing: prints the command, the memory and the hours of every run.")
    flags.DEFINE_string("topology", "v5e:4x4", "With --plan: devices, as --dry_compile of mdc_jax.main takes them.")
    flags.DEFINE_float("mfu", 0.4, "With --plan: share of the devices' peak that training reaches.", 0.0, 1.0)
    command.define_config()
    if command.wants_help(sys.argv):
        print(command.describe_configs())
    else:
        errors = (Failure, NonFiniteError, ReadError, TooManyBadRecords)
        app.run(command.reported(main, *errors), flags_parser=command.parse_flags)
