"""What a comparison would take on devices that are not there: the command, the memory and the hours of each run."""

import shlex
from collections.abc import Sequence

from mdc_jax.comparison import entries
from mdc_jax.comparison.plan import Run
from mdc_jax.comparison.settings import Comparison
from mdc_jax.config import duration, sections, steps
from mdc_jax.data.sources import open_source
from mdc_jax.report import tables
from mdc_jax.training import accounting, dry_compile, dry_report, topology


def text(comparison: Comparison, runs: Sequence[Run], target: str, mfu: float) -> str:
    """Commands of `mdc_jax.main`, and for each entry FLOPs, device-hours and whether a step fits.

    FLOPs are those of a step where every token has a loss, so that hours are at most those at that `mfu`. Raises
    ConfigError for devices, or a mesh, that cannot be, and for data of which epochs are counted and that is not here;
    where the compiler of TPUs is missing it says how to get it.
    """
    rows, commands = [], []
    for name in dict.fromkeys(run.entry for run in runs):
        config = entries.config_of(
            comparison, name, seed=0, steps=_total(comparison, name), lr=_rate(comparison, name), evaluators={}
        )
        count = sum(run.entry == name for run in runs)
        rows.append([name, str(count), *_estimate(config, target, mfu, count)])
    for run in runs:
        commands.append(train_command(comparison, run))
    header = ["", "runs", "images a run", "EFLOP a run", f"device-hours of all at MFU {mfu:g}", target]
    left_out = []
    if any(comparison.is_tuned(name) for name in comparison.entries):
        left_out.append("learning rates are tuned first: neither these runs nor what they choose is in what follows")
    if comparison.equal != "steps":
        left_out.append(f"equal {comparison.equal} are measured first: steps of all but the first entry are a guess")
    return "\n".join([*comparison.notes, *left_out, "", *commands, "", tables.markdown(header, rows)])


def _total(comparison: Comparison, name: str) -> int:
    return comparison.entries[name].steps or comparison.steps


def _rate(comparison: Comparison, name: str) -> float:
    return comparison.entries[comparison.rate_of(name)].lr


def train_command(comparison: Comparison, run: Run) -> str:
    """The command that trains a run with the evaluators of the base config."""
    entry = comparison.entries[run.entry]
    settings = {
        **entries.read_settings(comparison.settings, run.entry),
        **entries.read_settings(entry.settings, run.entry),
        **({"optimizer.lr": rate} if (rate := _rate(comparison, run.entry)) else {}),
        "seed": run.seed,
    }
    shown = [f"--config.{key}={value}" for key, value in settings.items() if not key.startswith("evaluators.")]
    base = entries.base_of(comparison, run.entry, steps=_total(comparison, run.entry))
    return shlex.join(["python", "-m", "mdc_jax.main", f"--config={base}", *shown, f"--workdir=DIR/runs/{run.name}"])


def _estimate(config: sections.Config, target: str, mfu: float, runs: int) -> list[str]:
    batch = config.data.batch_size
    images = batch * _steps(config)
    try:
        found = dry_compile.plan(config, target)
    except topology.CompilerMissing as error:
        return [f"{images:.3g}", "", "", str(error)]
    flops = found.flops / batch * images
    peak = accounting.peak(found.device_kind)
    hours = f"{runs * flops / (peak * mfu) / 3600:,.0f}" if peak else f"peak of a {found.device_kind} not listed"
    return [f"{images:.3g}", f"{flops / 1e18:.3g}", hours, dry_report.verdict(found)]


def _steps(config: sections.Config) -> int:
    # The data need not be here where no epochs of it are counted.
    records = len(open_source(config.data.train)) if duration.split(config.duration)[1] == "epochs" else 0
    return steps(config.duration, batch_size=config.data.batch_size, examples_per_epoch=records)
