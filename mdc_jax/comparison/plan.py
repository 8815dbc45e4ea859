"""`plan.json`: what is compared, on which terms, and the one command that makes each run again."""

import dataclasses
import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from mdc_jax import files
from mdc_jax.comparison import budget, costs, entries, provenance, sequence, tuning
from mdc_jax.comparison.settings import Comparison
from mdc_jax.config import sections, to_dict
from mdc_jax.report import tables

PLAN_FILE = "plan.json"


@dataclasses.dataclass(frozen=True)
class Run:
    """One training of an entry."""

    entry: str
    seed: int

    @property
    def name(self) -> str:
        """As --run takes it, and as its folder is called."""
        return f"{self.entry}/seed{self.seed}"

    def folder(self, workdir: epath.Path) -> epath.Path:
        """Its workdir."""
        return workdir / "runs" / self.entry / f"seed{self.seed}"


def runs(comparison: Comparison, names: Sequence[str]) -> list[Run]:
    """The runs of the entries `names`: seeds are the outer loop, so that what is there early can be compared; decoders
    without images come before what is scored with them."""
    blind = {entry.blind for entry in comparison.entries.values()}
    order = sorted(names, key=lambda name: name not in blind)
    return [Run(name, seed) for seed in comparison.seeds for name in order if seed in comparison.seeds_of(name)]


def share(comparison: Comparison, index: int, parts: int) -> list[str]:
    """The entries of part `index` (from 1) of `parts`. Those of which one takes a learning rate or p(caption) from
    another stay together."""
    together = {name: {name} for name in comparison.entries}
    for name, entry in comparison.entries.items():
        for other in filter(None, (entry.blind, entry.lr_of)):
            group = together[name] | together[other]
            together |= dict.fromkeys(group, group)
    groups = [group for name, group in together.items() if name == next(n for n in comparison.entries if n in group)]
    mine = set().union(*groups[index - 1 :: parts])
    return [name for name in comparison.entries if name in mine]


def learning_rate(comparison: Comparison, name: str, *workdirs: epath.Path) -> tuple[float, str]:
    """The learning rate of an entry (0: that of the base config), and where it comes from: the first of the workdirs
    in which it was tuned, where it was."""
    other, own = comparison.rate_of(name), comparison.entries[name].lr
    if other != name:
        return learning_rate(comparison, other, *workdirs)[0], f"that of {other}"
    choice = next(filter(None, (_choice(comparison, name, workdir) for workdir in workdirs)), None)
    if choice and own in (0, choice["chosen"]):
        return choice["chosen"], "tuned"
    if own:
        return own, "given"
    return 0.0, "not tuned yet" if comparison.is_tuned(name) else "of the base config"


def _choice(comparison: Comparison, name: str, workdir: epath.Path) -> Mapping[str, Any] | None:
    """What was tuned for an entry in a workdir; None where nothing was, or where the comparison does not tune."""
    path = workdir / "tuning" / name / tuning.CHOICE_FILE
    return files.read_json(path) if comparison.tuning.learning_rates else None


def config_of(
    comparison: Comparison, run: Run, workdir: epath.Path, steps: int, tuned_in: Sequence[epath.Path] = ()
) -> sections.Config:
    """The config of a run as it is reported; a decoder without images that diverged is not scored with.

    `tuned_in` are other workdirs in which its learning rate may have been tuned.
    """
    blind = blind_run(comparison, run)
    folder = blind.folder(workdir) if blind else None
    return entries.config_of(
        comparison,
        run.entry,
        seed=run.seed,
        steps=steps,
        lr=learning_rate(comparison, run.entry, workdir, *tuned_in)[0],
        evaluators=comparison.evaluators,
        blind=None if folder is None or sequence.diverged(folder) else folder,
    )


def blind_run(comparison: Comparison, run: Run) -> Run | None:
    """The decoder without images of a run: of its own seed, else of the first that there is."""
    blind = comparison.entries[run.entry].blind
    if not blind:
        return None
    seeds = comparison.seeds_of(blind)
    return Run(blind, run.seed if run.seed in seeds else seeds[0])


def write(
    comparison: Comparison,
    workdir: epath.Path,
    steps: Mapping[str, int],
    *,
    config: str,
    overrides: Mapping[str, Any],
) -> None:
    """Writes `plan.json`.

    Args:
      comparison: its settings.
      workdir: where it lies, with what has been tuned and measured so far.
      steps: of the entries that are trained here; others have theirs where they are known.
      config: as --config names it.
      overrides: settings that the command line changed, by key.
    """
    described, steps = [], {**budget.known(comparison, workdir), **steps}
    for name, entry in comparison.entries.items():
        rate, source = learning_rate(comparison, name, workdir)
        own = runs(comparison, [name])
        described.append(
            {
                "name": name,
                **dataclasses.asdict(entry),
                "learning_rate": rate or _base_rate(comparison, name),
                "learning_rate_source": source,
                "trained_steps": steps.get(name),
                "parameters": next(filter(None, (costs.parameters(run.folder(workdir)) for run in own)), None),
                "tuning": _choice(comparison, name, workdir) if source == "tuned" else None,
                "timing": files.read_json(workdir / "timing" / name / budget.TIMING_FILE),
            }
        )
    every = [
        {
            "entry": run.entry,
            "seed": run.seed,
            "folder": str(run.folder(epath.Path("."))),
            "base": entries.base_of(comparison, run.entry, steps=steps.get(run.entry, 0)),
            "overrides": [*comparison.settings, *comparison.entries[run.entry].settings],
            "command": command_of(comparison, run, workdir, steps, config, overrides),
            "starts": provenance.read(run.folder(workdir)),
            "diverged": _diverged(run.folder(workdir), steps.get(run.entry, 0)),
        }
        for run in runs(comparison, list(comparison.entries))
    ]
    first = next(iter(comparison.entries))
    plan = {
        "config": config,
        "overrides": dict(overrides),
        "notes": list(comparison.notes),
        "base": comparison.base,
        "budget": {"equal": comparison.equal, "steps": comparison.steps, "of": first},
        "seeds": list(comparison.seeds),
        "settings": list(comparison.settings),
        "evaluators": {name: to_dict(section) for name, section in comparison.evaluators.items()},
        "tuning": dataclasses.asdict(comparison.tuning),
        "entries": described,
        "runs": every,
        "code": provenance.code(),
        "hardware": provenance.hardware(),
        "data": provenance.data(config_of(comparison, Run(first, comparison.seeds[0]), workdir, steps.get(first, 0))),
    }
    files.write(workdir / PLAN_FILE, json.dumps(plan, indent=2) + "\n")


def _diverged(folder: epath.Path, steps: int) -> str:
    """As `sequence.diverged`, but of a run that had ended before it was trained on, and diverged."""
    return "" if steps and sequence.ended_at(folder) == steps else sequence.diverged(folder)


def terms(plan: Mapping[str, Any]) -> dict[str, Any]:
    """What two plans have in common where their numbers may be held against each other, but for their data.

    How often is evaluated depends on the steps, and learning rates may be tuned for each.
    """
    return {
        "settings": plan.get("settings"),
        "evaluators": {
            name: {key: value for key, value in section.items() if key != "every"}
            for name, section in plan.get("evaluators", {}).items()
        },
        "budget": plan.get("budget"),
    }


def entry_terms(plan: Mapping[str, Any]) -> dict[str, Any]:
    """What each entry of a plan is, but for its learning rate, which one part may have tuned alone."""
    return {entry["name"]: (entry["objective"], entry["settings"]) for entry in plan.get("entries", ())}


def describe(comparison: Comparison, workdir: epath.Path, steps: Mapping[str, int]) -> str:
    """What is about to be trained: notes, and a line for each entry."""
    rows = []
    for name, count in steps.items():
        rate, source = learning_rate(comparison, name, workdir)
        rate = f"{rate:g}, {source}" if rate else source
        rows.append([name, comparison.entries[name].objective, str(len(comparison.seeds_of(name))), str(count), rate])
    table = tables.markdown(["", "objective", "seeds", "steps", "learning rate"], rows)
    return "\n".join([*comparison.notes, f"equal {comparison.equal}", "", table])


def command_of(
    comparison: Comparison,
    run: Run,
    workdir: epath.Path,
    steps: Mapping[str, int],
    config: str,
    overrides: Mapping[str, Any],
) -> str:
    """The command that trains and evaluates one run from nothing, with what was tuned and measured filled in, also of
    the decoder without images that it trains first."""
    filled = dict(overrides)
    for name in filter(None, (run.entry, comparison.entries[run.entry].blind)):
        filled[f"entries.{name}.lr"] = learning_rate(comparison, name, workdir)[0]
        filled |= {} if comparison.equal == "steps" else {f"entries.{name}.steps": steps.get(name, 0)}
    settings = [f"--config.{key}={value}" for key, value in filled.items() if value or key in overrides]
    arguments = [f"--config={config}", *settings, f"--run={run.name}", "--workdir=DIR"]
    return shlex.join(["python", "-m", "mdc_jax.compare", *arguments])


def _base_rate(comparison: Comparison, name: str) -> float:
    return entries.config_of(comparison, name, seed=0, steps=0, lr=0.0, evaluators={}).optimizer.lr
