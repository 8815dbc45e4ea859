"""Joins what several machines have done of one comparison, so that it can be reported, and goes on, in one place."""

import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from mdc_jax import files, lock
from mdc_jax.comparison import plan, sequence, tuning
from mdc_jax.config import ConfigError
from mdc_jax.report import metrics_file

_RUNS = ("runs/*/seed*", "tuning/*/lr*/seed*", "timing/*")
_CHOICES = f"tuning/*/{tuning.CHOICE_FILE}"


def merge(sources: Sequence[pathlib.Path], workdir: pathlib.Path) -> list[str]:
    """Copies runs, and what was tuned and measured, into `workdir`, and returns what was copied.

    Of what lies in several places, that which got furthest is kept. Raises ConfigError for no folder,
    one without a plan, comparisons that are not the same, and for a run that is at work.
    """
    if not sources:
        raise ConfigError("--merge: give the workdirs that are to be joined, as in --merge part1 part2")
    plans = {source: _plan(source) for source in (workdir, *sources)}
    for source in sources:
        if plans[source] is None:
            raise ConfigError(f"--merge: {source} has no {plan.PLAN_FILE}: give the --workdir of a comparison")
    reference = plans[workdir] or plans[sources[0]]
    terms = _terms(reference)
    for source in sources:
        different = [key for key, value in _terms(plans[source]).items() if value != terms[key]]
        # One may have entries that the other has not.
        ours, theirs = plan.entry_terms(reference), plan.entry_terms(plans[source])
        different += [f"entries.{name}" for name in theirs if ours.get(name, theirs[name]) != theirs[name]]
        if different:
            raise ConfigError(f"--merge: {source} is another comparison: its {', '.join(different)} differ")
    copied = []
    for source in sources:
        for folder in sorted(folder for pattern in _RUNS for folder in source.glob(pattern)):
            place = workdir / folder.relative_to(source)
            if place.exists() and _done(folder) <= _done(place):
                continue
            for one in (folder, place):
                lock.check_free(epath.Path(one))
            # Under another name first, so that what was interrupted is not taken for a run.
            partial = place.with_name(f".copy_of_{place.name}")
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(folder, partial)
            shutil.rmtree(place, ignore_errors=True)
            partial.rename(place)
            copied.append(str(folder))
        for choice in sorted(source.glob(_CHOICES)):
            place = workdir / choice.relative_to(source)
            if not place.exists() or files.read_json(choice)["steps"] > files.read_json(place)["steps"]:
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(choice, place)
                copied.append(str(choice))
    return copied


def _plan(folder: pathlib.Path) -> dict[str, Any] | None:
    path = folder / plan.PLAN_FILE
    found = files.read_json(path) if folder.is_dir() else None
    if found is not None and not {"base", "settings", "evaluators", "budget"} <= found.keys():
        raise files.damaged(path)
    return found


def _terms(found: Mapping[str, Any]) -> dict[str, Any]:
    """What has to be the same; one may have been trained on, for more steps."""
    budget = {key: value for key, value in found["budget"].items() if key != "steps"}
    return {**plan.terms(found), "base": found["base"], "budget": budget}


def _done(folder: pathlib.Path) -> tuple[int, bool]:
    """The last step of the log of a run, -1 where there is none, and whether it has ended there."""
    ended = any((folder / name).exists() for name in (metrics_file.RESULTS_FILE, sequence.DIVERGED_FILE))
    return max((line["step"] for line in metrics_file.read(folder)), default=-1), ended
