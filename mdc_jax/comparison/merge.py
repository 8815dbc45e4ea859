"""Joins what several machines have done of one comparison, so that it can be reported, and goes on, in one place."""

import pathlib
import shutil
from collections.abc import Sequence

from mdc_jax.comparison import plan
from mdc_jax.config import ConfigError
from mdc_jax.training.metric_writer import read

_PARTS = ("runs/*/seed*", "tuning/*", "timing/*")


def merge(sources: Sequence[pathlib.Path], workdir: pathlib.Path) -> list[str]:
    """Copies runs, and what was tuned and measured, into `workdir`, and returns what was copied.

    Of a run that lies in several places, the one that got furthest is kept. Raises ConfigError for a folder without a
    plan, and for comparisons that are not the same.
    """
    plans = {source: plan.read_json(source / plan.PLAN_FILE) for source in (workdir, *sources)}
    for source in sources:
        if plans[source] is None:
            raise ConfigError(f"--merge: {source} has no {plan.PLAN_FILE}: give the --workdir of a comparison")
    reference, compared = plans[workdir] or plans[sources[0]], ("base", "settings", "evaluators", "budget")
    for source in sources:
        different = [key for key in compared if plans[source][key] != reference[key]]
        if different:
            raise ConfigError(f"--merge: {source} is another comparison: its {', '.join(different)} differ")
    copied = []
    for source in sources:
        for pattern in _PARTS:
            for folder in sorted(source.glob(pattern)):
                place = workdir / folder.relative_to(source)
                if place.exists() and _last_step(folder) <= _last_step(place):
                    continue
                # Under another name first, so that what was interrupted is not taken for a run.
                partial = place.with_name(f".copy_of_{place.name}")
                shutil.rmtree(partial, ignore_errors=True)
                shutil.copytree(folder, partial)
                shutil.rmtree(place, ignore_errors=True)
                partial.rename(place)
                copied.append(str(folder))
    return copied


def _last_step(folder: pathlib.Path) -> int:
    """Of the log of a run; -1 where there is none."""
    return max((line["step"] for line in read(folder)), default=-1)
