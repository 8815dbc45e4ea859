"""Runs evaluators on a checkpoint.

    python -m mdc_jax.evaluate --workdir=runs/scenes [--step=N] [--evaluator=NAME ...] [--out=DIR]

NAME is an evaluator of the run's config, or a type of evaluator, which then runs at its defaults.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from absl import app, flags
from etils import epath

from mdc_jax import command, evaluators
from mdc_jax.config import ConfigError, sections
from mdc_jax.evaluators.base import Subject
from mdc_jax.training import checkpoint, compilation_cache

_WORKDIR = flags.DEFINE_string("workdir", None, "The run to evaluate.", required=True)
_STEP = flags.DEFINE_integer("step", None, "Step of the checkpoint; the latest if not given.")
_EVALUATOR = flags.DEFINE_multi_string("evaluator", [], "What to run; all of the run's config if not given.")
_OUT = flags.DEFINE_string("out", None, "Folder for tables and pictures; WORKDIR/evaluations/STEP if not given.")


def choose(configured: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The sections of the evaluators called `names`, or all that are configured; raises ConfigError."""
    known = {**{name: section() for name, section in sections.EVALUATORS.items()}, **configured}
    for name in names:
        if name not in known:
            raise ConfigError(f"--evaluator={name}: choose from {', '.join(sorted(known))}")
    if not names and not configured:
        raise ConfigError(f"the run's config has no evaluator: name one, as in --evaluator={sorted(known)[0]}")
    return {name: known[name] for name in names or configured}


def main(arguments: Sequence[str]) -> None:
    if len(arguments) > 1:
        raise app.UsageError(f"unexpected arguments {arguments[1:]}")
    compilation_cache.enable()
    loaded = checkpoint.load(_WORKDIR.value, step=_STEP.value)
    chosen = choose(loaded.config.evaluators, _EVALUATOR.value)
    out = epath.Path(_OUT.value or epath.Path(_WORKDIR.value) / "evaluations" / str(loaded.step))
    subject = Subject(
        objective=loaded.objective,
        params=loaded.params,
        config=loaded.config,
        tokenizer=loaded.tokenizer,
        mesh=loaded.mesh,
        step=loaded.step,
        out=out,
    )
    values = dict(evaluators.run(chosen, subject))
    print(f"step {loaded.step:,} of {_WORKDIR.value}\n\n{evaluators.summary(values, out)}\n\nfiles in {out}")


if __name__ == "__main__":
    app.run(command.reported(main), flags_parser=command.parse_flags)
