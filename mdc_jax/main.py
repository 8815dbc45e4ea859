"""Trains a model: `python -m mdc_jax.main --config=configs/scenes.py --workdir=runs/scenes`.

With `--dry_compile=v5e:16x16` in place of the workdir it says what a step would take there, and trains nothing.

Exit codes: 0 finished, 143 saved on a signal and not finished, anything else failed. The same command continues.
"""

import shlex
import sys

from absl import app, flags
from etils import epath

from mdc_jax import command
from mdc_jax.config import ConfigError, parse
from mdc_jax.data.pipeline import DATA_ERRORS
from mdc_jax.training import compilation_cache, distributed, dry_compile, dry_report, loop
from mdc_jax.training.failures import Failure
from mdc_jax.training.train_log import NonFiniteError

_WORKDIR = flags.DEFINE_string("workdir", None, "Where checkpoints, logs and results go; a second start resumes.")
_DRY_COMPILE = flags.DEFINE_string(
    "dry_compile", "", "Only compile the step for these devices, as in v5e:16x16 or cpu:8, and say what it takes."
)
_OUT = flags.DEFINE_string("out", "", "With --dry_compile: a CSV file that gets a row of what it says.")
_COORDINATOR = flags.DEFINE_string(
    "coordinator", "", "HOST:PORT of process 0 where the run has several; auto on TPU pods and Slurm."
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", 1, "Processes of the run.")
_PROCESS_ID = flags.DEFINE_integer("process_id", 0, "Which of them this is.")
command.define_config()


def main(_: list[str]) -> None:
    config = parse(command.given_config("configs/scenes.py"))
    if _DRY_COMPILE.value:
        plan = dry_compile.plan(config, _DRY_COMPILE.value)
        if _OUT.value:
            dry_report.write(epath.Path(_OUT.value), plan, shlex.join(command.without("out", sys.argv[1:])))
        print(dry_report.text(plan))
        return
    if _WORKDIR.value is None:
        raise ConfigError("give --workdir=DIR, where checkpoints, logs and results go; a second start resumes")
    distributed.initialize(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    compilation_cache.enable()
    if loop.train(config, _WORKDIR.value) is None:
        sys.exit(distributed.STOPPED)


def run(argv: list[str]) -> None:
    """main, where what a user can mend comes without a traceback, and no process is left waiting for another."""
    with distributed.ending_together():
        try:
            command.reported(main, Failure, NonFiniteError, *DATA_ERRORS)(argv)
        except KeyboardInterrupt:
            sys.exit("interrupted; the same command continues from the last checkpoint")


if __name__ == "__main__":
    app.run(run, flags_parser=command.parse_flags)
