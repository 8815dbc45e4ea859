"""How many steps each entry is trained for, so that all have equal steps, FLOPs or seconds.

FLOPs and seconds of a step are measured by a short run of each entry, in WORKDIR/timing/ENTRY, and kept in its
`timing.json`, beside those of the first entry as this machine measured them: seconds hold for the machine, and for how
busy it was.
"""

import dataclasses
import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

from etils import epath

from mdc_jax import files
from mdc_jax.comparison import costs, entries, provenance, same_run, sequence
from mdc_jax.comparison.settings import Comparison
from mdc_jax.config import ConfigError, sections
from mdc_jax.report.metrics_file import read
from mdc_jax.training import loop

TIMING_FILE = "timing.json"
_SEED, _REPORTS = 999, 10


def steps(comparison: Comparison, workdir: epath.Path, names: Iterable[str]) -> Mapping[str, int] | None:
    """The steps of the entries `names` (0: as the base config says); None where a signal stopped a short run."""
    entry = comparison.entries
    reference = next(iter(entry))
    if comparison.equal != "steps":
        unknown = [name for name in names if not entry[name].steps]
        for name in dict.fromkeys([reference, *unknown] if unknown else ()):  # the others are held against the first
            if measure(comparison, workdir, name) is None:
                return None
    found = known(comparison, workdir)
    return {name: found[name] for name in names}


def known(comparison: Comparison, workdir: epath.Path) -> dict[str, int]:
    """The steps of the entries of which nothing has to be measured any more."""
    found, reference = {}, next(iter(comparison.entries))
    for name, entry in comparison.entries.items():
        if entry.steps or comparison.equal == "steps":
            found[name] = entry.steps or comparison.steps
        elif own := _measured(workdir, name, reference):
            first = own if name == reference else own["reference"]
            key = "flops_per_step" if comparison.equal == "flops" else "step_seconds"
            steps_of_first = comparison.entries[reference].steps or comparison.steps
            found[name] = max(round(steps_of_first * first[key] / own[key]), 1)
    return found


def measure(comparison: Comparison, workdir: epath.Path, name: str) -> Mapping[str, Any] | None:
    """FLOPs and seconds of a step of an entry, which are measured once; None where a signal stopped that.

    Of other entries than the first also the `reference`: what the first one has in this workdir. Raises ConfigError
    where it was measured of other settings than the entry's.
    """
    reference = next(iter(comparison.entries))
    folder = workdir / "timing" / name
    count = comparison.timing_steps
    config = entries.config_of(comparison, name, seed=_SEED, steps=count, lr=comparison.entries[name].lr, evaluators={})
    _check_settings(folder, config)
    if found := _measured(workdir, name, reference):
        return found
    config = dataclasses.replace(
        config,
        log=dataclasses.replace(config.log, every=f"{max(count // _REPORTS, 1)} steps", tensorboard=False),
        checkpoint=sections.Checkpoint(every=f"{count} steps", keep_latest=1, keep_best=0),
    )
    if not sequence.train({folder: config}):
        return None
    found = costs.of(folder, read(folder))
    measured = {
        "steps": count,
        "flops_per_step": found.flops_per_step,
        "step_seconds": found.step_seconds,
        "measured": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        "hardware": provenance.hardware(),
    }
    if name != reference:  # kept here, since parts that other machines measured are merged
        measured["reference"] = _measured(workdir, reference, reference)
    files.write(folder / TIMING_FILE, json.dumps(measured, indent=2) + "\n")
    return measured


def _check_settings(folder: epath.Path, config: sections.Config) -> None:
    """Raises ConfigError where the short run of a folder had other settings than `config`."""
    stored = files.read_json(folder / loop.CONFIG_FILE, missing_if_damaged=True)
    if stored is None:
        return
    rate = stored.get("optimizer", {}).get("lr", config.optimizer.lr)  # which changes nothing of what a step costs
    config = dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, lr=rate))
    try:
        same_run.check(folder, stored, config)
    except ConfigError as error:
        raise ConfigError(f"{error}; or remove this folder, and the cost of a step is measured anew") from error


def _measured(workdir: epath.Path, name: str, reference: str) -> dict[str, Any] | None:
    """What was measured of an entry; None where nothing was. Raises ConfigError where the file is damaged."""
    path = workdir / "timing" / name / TIMING_FILE
    found = files.read_json(path)
    for own in () if found is None else (found,) if name == reference else (found, found.get("reference") or {}):
        if not {"flops_per_step", "step_seconds"} <= own.keys():
            raise files.damaged(path)
    return found
