"""Trains a model: `python -m mdc_jax.main --config=configs/scenes.py --workdir=runs/scenes`.

Exit codes: 0 finished, 143 saved on a signal and not finished, anything else failed. The same command continues.
"""

import sys

from absl import app, flags

from mdc_jax import command
from mdc_jax.config import ConfigError, parse
from mdc_jax.data.pipeline import ReadError, TooManyBadRecords
from mdc_jax.training import compilation_cache, distributed, loop
from mdc_jax.training.failures import Failure
from mdc_jax.training.train_log import NonFiniteError

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Where checkpoints, logs and results go; a second start resumes.", required=True
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", "", "HOST:PORT of process 0 where the run has several; auto on TPU pods and Slurm."
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", 1, "Processes of the run.")
_PROCESS_ID = flags.DEFINE_integer("process_id", 0, "Which of them this is.")
_CONFIG = command.define_config()


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise ConfigError(
            f"unexpected arguments {' '.join(argv[1:])}: settings are given as --config.optimizer.lr=3e-4"
        )
    if _CONFIG.value is None:
        raise ConfigError("give a config, as in --config=configs/scenes.py; --config=help lists them")
    config = parse(_CONFIG.value)
    distributed.initialize(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    compilation_cache.enable()
    if loop.train(config, _WORKDIR.value) is None:
        sys.exit(distributed.STOPPED)


def run(argv: list[str]) -> None:
    """main, where what a user can mend comes without a traceback, and no process is left waiting for another."""
    with distributed.ending_together():
        try:
            command.reported(main, Failure, NonFiniteError, ReadError, TooManyBadRecords)(argv)
        except KeyboardInterrupt:
            sys.exit("interrupted; the same command continues from the last checkpoint")


if __name__ == "__main__":
    if command.wants_help(sys.argv):
        print(command.describe_configs())
    else:
        app.run(run, flags_parser=command.parse_flags)
