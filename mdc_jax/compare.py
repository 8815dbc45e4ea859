"""Trains and evaluates several objectives on equal terms: the paper's claims are comparisons.

    python -m mdc_jax.compare --config=configs/compare_scenes.py:quick --workdir=runs/quick

The same command goes on after it was stopped, skips what is done, and extends finished runs where the config asks for
more steps. --only=2/4 does the second of four parts, and

    python -m mdc_jax.compare --config=... --workdir=runs/all --merge machine1 machine2 ...

joins them. --plan trains nothing: it prints commands, memory and hours. See `mdc_jax/comparison/README.md`.
"""

import pathlib
import sys
from collections.abc import Sequence

from absl import app, flags
from etils import epath
from ml_collections import config_flags

from mdc_jax import command
from mdc_jax.comparison import estimate, execution, merge, report, sequence, settings
from mdc_jax.config import ConfigError
from mdc_jax.data.pipeline import DATA_ERRORS
from mdc_jax.training import compilation_cache, distributed
from mdc_jax.training.failures import Failure
from mdc_jax.training.train_log import NonFiniteError


def main(arguments: Sequence[str]) -> None:
    options, flag = flags.FLAGS, flags.FLAGS["config"]
    config = command.given_config("configs/compare_scenes.py")
    if arguments[1:] and not options.merge:
        raise ConfigError(f"unexpected arguments {' '.join(arguments[1:])}: --merge takes folders")
    comparison, workdir = settings.parse(config), epath.Path(options.workdir)
    runs = execution.choose(comparison, options.only, options.run)
    if options.plan:
        print(estimate.text(comparison, runs, options.topology, options.mfu))
        return
    distributed.refuse_part_of_slice()
    if options.merge:
        sources = [epath.Path(folder) for folder in arguments[1:]]
        for folder in sources:  # before anything is copied
            execution.check_held(comparison, folder, tuned_in=[workdir, *sources])
        with command.writing("workdir", options.workdir):
            workdir.mkdir(parents=True, exist_ok=True)
        copied = merge.merge([pathlib.Path(folder) for folder in sources], pathlib.Path(workdir))
        print("\n".join(f"copied {folder}" for folder in copied))
    compilation_cache.enable()
    said = {
        "config": config_flags.get_config_filename(flag),
        "overrides": config_flags.get_override_values(flag),
    }
    if not execution.execute(comparison, workdir, runs, **said):
        sys.exit(distributed.STOPPED)
    diverged = [run.name for run in runs if sequence.diverged(run.folder(workdir))]
    given_up = f" ({', '.join(diverged)} diverged)" if diverged else ""
    print(f"\n{len(runs) - len(diverged)} runs are finished{given_up}; read {workdir / report.FOLDER / 'report.html'}")


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "Where runs, plan and results go; a second start goes on.", required=True)
    flags.DEFINE_string("only", "", "PART/PARTS, as in 2/4: a part of the entries, for one of several machines.")
    flags.DEFINE_string("run", "", "ENTRY/seedN: one run, with the decoder without images that it is scored beside.")
    flags.DEFINE_bool("merge", False, "Joins the workdirs given as arguments into --workdir, and goes on there.")
    flags.DEFINE_bool("plan", False, "Trains nothing: prints the command, the memory and the hours of every run.")
    flags.DEFINE_string("topology", "v5e:4x4", "With --plan: devices, as --dry_compile of mdc_jax.main takes them.")
    flags.DEFINE_float("mfu", 0.4, "With --plan: share of the devices' peak that training reaches.", 0.01, 1.0)
    command.define_config()
    app.run(command.reported(main, Failure, NonFiniteError, *DATA_ERRORS), flags_parser=command.parse_arguments)
