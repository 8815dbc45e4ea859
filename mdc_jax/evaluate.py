"""Runs evaluators on a checkpoint.

    python -m mdc_jax.evaluate --workdir=runs/scenes [--step=N|all] [--evaluator=NAME,...] \\
        [--set=NAME.KEY=VALUE ...] [--max_bad_share=0.05] [--out=DIR]

WORKDIR is a run, an export of one, or an encoder of another library, as `mdc_jax/exchange` reads them; an encoder alone
can be probed, on the sources that --set names.

NAME is an evaluator of the run's config, or a type of evaluator, which then runs at its defaults. --set changes a
setting of one, as in --set=compositionality.examples=50; without --out the files are then in
WORKDIR/evaluations/STEP_changed. Records that cannot be used are left out; --max_bad_share allows more of them than the
run did.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from absl import app, flags
from etils import epath

from mdc_jax import command, evaluators, files
from mdc_jax.config import ConfigError, parse, sections, to_dict
from mdc_jax.data.pipeline import DATA_ERRORS
from mdc_jax.evaluators.base import Subject
from mdc_jax.exchange import loading
from mdc_jax.report import evaluations
from mdc_jax.report.metrics_file import without_nan
from mdc_jax.training import checkpoint, compilation_cache

VALUES_FILE = "values.json"  # of an evaluator, beside its tables: what a run would have logged of it


def choose(configured: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The sections of the evaluators called `names`, or all that are configured; raises ConfigError."""
    known = {**{name: section() for name, section in sections.EVALUATORS.items()}, **configured}
    for name in names:
        if name not in known:
            raise ConfigError(f"--evaluator={name}: choose from {', '.join(sorted(known))}")
    if not names and not configured:
        raise ConfigError(f"the run's config has no evaluator: name one, as in --evaluator={sorted(known)[0]}")
    return {name: known[name] for name in names or configured}


def moved(section: Any, workdir: epath.Path) -> Any:
    """An evaluator of a run, with its decoder without images where that lies now.

    A comparison that was moved, or merged, has it in the same place beside the run: ../../ENTRY/seedN.
    """
    blind = epath.Path(getattr(section, "blind_workdir", "") or workdir)
    beside = workdir.parent.parent / blind.parent.name / blind.name
    if blind.exists() or not beside.exists():
        return section
    return dataclasses.replace(section, blind_workdir=str(beside))


def override(config: sections.Config, chosen: Mapping[str, Any], texts: Sequence[str]) -> dict[str, Any]:
    """The sections of the evaluators `chosen`, changed as each "NAME.KEY=VALUE" says; raises ConfigError."""
    raw = to_dict(dataclasses.replace(config, evaluators={**config.evaluators, **chosen}))
    for text in texts:
        path, equals, value = text.partition("=")
        name, *keys = path.split(".")
        if not equals or not keys:
            raise ConfigError(f"--set={text}: write NAME.KEY=VALUE, as in compositionality.examples=50")
        if name not in chosen:
            raise ConfigError(f"--set={text}: no such evaluator is run; these are: {', '.join(chosen)}")
        section = raw["evaluators"][name]
        for key in keys[:-1]:
            section = section.get(key)
            if not isinstance(section, dict):
                raise ConfigError(f"--set={text}: {key} is no section")
        section[keys[-1]] = command.literal(value)
    changed = parse(raw).evaluators
    return {name: changed[name] for name in chosen}


def steps_of(workdir: epath.Path, text: str) -> list[int | None]:
    """The steps that --step names, None for the latest; raises ConfigError."""
    if text == "all":
        return list(checkpoint.steps(workdir))
    if text and not text.isdecimal():
        raise ConfigError(f'--step={text}: give a number, or "all"')
    return [int(text) if text else None]


def main(_: list[str]) -> None:
    compilation_cache.enable()
    workdir = epath.Path(flags.FLAGS.workdir)
    for step in steps_of(workdir, flags.FLAGS.step):
        evaluate(workdir, step)


def evaluate(workdir: epath.Path, step: int | None) -> None:
    """Runs what the flags ask for on one checkpoint, and prints what it found."""
    values = flags.FLAGS
    names = [name for text in values.evaluator for name in text.split(",")]
    loaded = loading.load(workdir, step=step)
    chosen = choose({name: moved(section, workdir) for name, section in loaded.config.evaluators.items()}, names)
    chosen = override(loaded.config, chosen, values.set)
    data = loaded.config.data
    if values.max_bad_share is not None:
        data = dataclasses.replace(data, max_bad_share=values.max_bad_share)
    config = dataclasses.replace(loaded.config, data=data, evaluators=chosen)
    evaluators.check(config)
    # The files of the run's own evaluation stay as they are where settings are others.
    folder = f"{loaded.step}_changed" if values.set else str(loaded.step)
    beside = workdir.with_suffix("") if workdir.suffix == ".npz" else workdir
    out = epath.Path(values.out or beside / evaluations.FOLDER / folder)
    if values.out and values.step == "all":
        out /= str(loaded.step)
    command.make_folder("out", str(out))
    subject = dataclasses.replace(Subject.of(loaded, out), config=config)
    print(f"step {loaded.step:,} of {values.workdir}\n", flush=True)
    for name, section in chosen.items():
        found = dict(evaluators.run({name: section}, subject))
        own = {key.removeprefix(f"{name}/"): value for key, value in found.items()}
        files.write(out / name / VALUES_FILE, json.dumps(without_nan(own), indent=2) + "\n")
        print(f"{evaluators.summary(found, out, [name])}\n", flush=True)
    print(f"files in {out}")


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "A run, an export of one, or a released encoder.", required=True)
    flags.DEFINE_string("step", "", "Step of the checkpoint, or all that are kept; the latest if not given.")
    flags.DEFINE_multi_string("evaluator", [], "What to run; all of the run's config if not given.")
    flags.DEFINE_multi_string("set", [], "NAME.KEY=VALUE: a setting of an evaluator that is run.")
    flags.DEFINE_float("max_bad_share", None, "Share of records that may be unusable; the run's if not given.", 0, 1)
    flags.DEFINE_string(
        "out", None, "Folder for tables and pictures; WORKDIR/evaluations/STEP if not given, with --set STEP_changed."
    )
    app.run(command.reported(main, *DATA_ERRORS), flags_parser=command.parse_flags)
