"""The whole of a comparison: measure, tune, train, evaluate, collect; everything that is done already is skipped."""

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from etils import epath

from mdc_jax import command, evaluators
from mdc_jax.comparison import budget, collect, entries, plan, report, sequence, settings, tuning
from mdc_jax.comparison.settings import Comparison
from mdc_jax.config import ConfigError
from mdc_jax.config.errors import require
from mdc_jax.config.parse import did_you_mean
from mdc_jax.data.sources import open_source
from mdc_jax.training import label_families, loop
from mdc_jax.training.train_log import NonFiniteError

_BLIND = "null_image_rate"  # of an objective; 1: trained without images


def choose(comparison: Comparison, only: str = "", run: str = "") -> list[plan.Run]:
    """The runs of a part, as "2/4", or of the one run "ENTRY/seedN" with what it is scored beside; of neither, all.

    Raises ConfigError for a part or a run that there is not.
    """
    every = plan.runs(comparison, comparison.order)
    if run and only:
        raise ConfigError(f"--run={run} and --only={only}: give one of them")
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
    names = plan.share(comparison, int(match[1]), int(match[2]))
    if not names:
        raise ConfigError(f"--only={only}: no entry is left for this part: parts have whole entries; take fewer parts")
    return plan.runs(comparison, names)


def check(comparison: Comparison, runs: Sequence[plan.Run]) -> None:
    """Raises ConfigError for an entry that could not be trained or evaluated, before hours are spent on others."""
    _check_evaluators(comparison)
    for run in {run.entry: run for run in runs}.values():
        unscored = settings.without_blind(comparison, run.entry)  # that decoder is yet to be trained
        config = plan.config_of(unscored, run, epath.Path(), comparison.entries[run.entry].steps or comparison.steps)
        entries.total_steps(config)
        if blind := plan.blind_run(comparison, run):
            rate = getattr(plan.config_of(comparison, blind, epath.Path(), comparison.steps).objective, _BLIND, 0.0)
            fix = f"it is trained with images: set objective.{_BLIND}=1.0 there, or name another entry"
            require(rate == 1, f"entries.{run.entry}.blind", blind.entry, fix)
        evaluators.check(label_families.filled(config, open_source(config.data.train)))


def _check_evaluators(comparison: Comparison) -> None:
    """Raises ConfigError for a setting of an evaluator that there is not, which would be left out without a word.

    Entries have settings of evaluators that only some sizes of a comparison have: of them a slip of the pen alone.
    """
    known = comparison.evaluators
    every = {name: entry.settings for name, entry in comparison.entries.items()}
    for who, texts in {**every, "settings": comparison.settings}.items():
        for key in entries.read_settings(texts, who):
            group, _, rest = key.partition(".")
            name = rest.partition(".")[0]
            meant = who == "settings" or difflib.get_close_matches(name, known)
            if group == "evaluators" and name not in known and meant:
                raise ConfigError(f'{who}: {key}: there is no evaluator "{name}"{did_you_mean(name, known)}')


def check_held(
    comparison: Comparison,
    workdir: epath.Path,
    but: Collection[plan.Run] = (),
    tuned_in: Sequence[epath.Path] = (),
) -> None:
    """Raises ConfigError where a run that lies in a workdir, and is not one of `but`, is none of this comparison: the
    report would hold it against the others all the same. `tuned_in` as for `plan.config_of`."""
    for run in plan.runs(comparison, comparison.order):
        if run not in but and (run.folder(workdir) / loop.CONFIG_FILE).exists():
            wanted = plan.config_of(comparison, run, workdir, comparison.steps, tuned_in)
            sequence.is_begun(run.folder(workdir), wanted)


def execute(
    comparison: Comparison,
    workdir: epath.Path,
    runs: Sequence[plan.Run],
    *,
    config: str,
    overrides: Mapping[str, Any],
) -> bool:
    """Does what is left to do for `runs`; returns False where a signal stopped it.

    A run that diverges is given up, and the others go on; what was to be scored beside it is scored without it.
    `config` and `overrides` are what the command line said, for the commands in the plan. Raises ConfigError, and what
    training raises.
    """
    check(comparison, runs)
    check_held(comparison, workdir, but=runs)
    with command.writing("workdir", str(workdir)):
        workdir.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(run.entry for run in runs))
    steps = budget.steps(comparison, workdir, names)
    if steps is None:
        return False
    for name in filter(comparison.is_tuned, dict.fromkeys(map(comparison.rate_of, names))):
        if tuning.choose(comparison, workdir, name, steps=steps.get(name, comparison.steps)) is None:
            return False

    def write(_: epath.Path = workdir) -> None:
        plan.write(comparison, workdir, steps, config=config, overrides=overrides)
        if collect.write(workdir):
            report.write(workdir)

    print(plan.describe(comparison, workdir, steps), flush=True)
    while True:
        configs = {run.folder(workdir): plan.config_of(comparison, run, workdir, steps[run.entry]) for run in runs}
        unfinished = [folder for folder, config in configs.items() if not sequence.is_finished(folder, config)]
        write()  # not before all runs that are there are known to be those of this comparison
        print(f"{len(configs) - len(unfinished)} of {len(configs)} runs are finished", flush=True)
        left = {folder: configs[folder] for folder in unfinished if not sequence.diverged(folder)}
        try:
            return sequence.train(left, after=write)
        except NonFiniteError as error:  # noted in the folder of that run, which is not among those left any more
            print(f"given up: {error}", flush=True)
