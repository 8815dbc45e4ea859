"""Every setting of a comparison: what a config `configs/compare_*.py` returns."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import ml_collections

from mdc_jax.config import ConfigError, parse_as, sections
from mdc_jax.config.errors import require
from mdc_jax.config.parse import did_you_mean

_NOT_TUNED = "learning rates are not tuned here: they are that of the base config where the entries record no other"


@dataclasses.dataclass(frozen=True)
class Entry:
    """What is compared: one objective with settings of its own, trained for each seed."""

    objective: str = "masked_diffusion"
    settings: tuple[str, ...] = ()  # KEY=VALUE, as in "objective.ratio=0.4" or "evaluators.foils.scorers=('elbo',)"
    lr: float = 0.0  # 0: that of `lr_of`, else chosen by `Tuning`, else that of the base config
    lr_of: str = ""  # the entry whose learning rate this one takes: controls are not tuned
    steps: int = 0  # 0: as `Comparison.equal` says
    seeds: int = 0  # the first so many of `Comparison.seeds`; 0: all
    # The entry that is the same without images (objective.null_image_rate=1.0): p(caption) of this one's evaluators.
    blind: str = ""
    control: bool = False  # what others are held against, of which nothing is claimed


@dataclasses.dataclass(frozen=True)
class Tuning:
    """How the learning rate of each entry is chosen: by the mean of a probe of the validation split."""

    learning_rates: tuple[float, ...] = ()  # (): entries take those that are recorded, or that of the base config
    seeds: tuple[int, ...] = (1000,)  # none that is reported
    steps: int = 0  # 0: those of the comparison
    widenings: int = 3  # rates that are added at most where the best one is the largest or the smallest
    probe: sections.LinearProbe = dataclasses.field(default_factory=sections.LinearProbe)


@dataclasses.dataclass(frozen=True)
class Comparison:
    # A config file with its argument, which takes objective= too and, where `steps` is not 0, steps=.
    base: str = ""
    entries: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # name → `Entry`
    order: tuple[str, ...] = ()  # of their names, since a config sorts them; differences are to the first
    seeds: tuple[int, ...] = (0,)  # of initialisation, masks and data order
    steps: int = 0  # of the first entry; 0: as the base config says
    # What the entries have in equal amounts: steps; FLOPs of training; or seconds, by the speed of a short run.
    equal: str = sections.choice("steps", ("steps", "flops", "seconds"))
    timing_steps: int = 200  # of that short run, of which FLOPs are read too
    settings: tuple[str, ...] = ()  # KEY=VALUE of all entries
    evaluators: Mapping[str, sections.Evaluator] = dataclasses.field(default_factory=dict)
    tuning: Tuning = Tuning()
    notes: tuple[str, ...] = ()  # what a reader of the result has to know, as that there are no controls

    def seeds_of(self, name: str) -> tuple[int, ...]:
        """The seeds of an entry."""
        return self.seeds[: self.entries[name].seeds or None]

    def rate_of(self, name: str) -> str:
        """The entry whose learning rate an entry has: another one's where it has none of its own."""
        entry = self.entries[name]
        return name if entry.lr else entry.lr_of or name

    def is_tuned(self, name: str) -> bool:
        """Whether the learning rate of an entry has to be looked for."""
        entry = self.entries[name]
        return bool(self.tuning.learning_rates) and not entry.lr and not entry.lr_of


def parse(config: ml_collections.ConfigDict) -> Comparison:
    """Checks the settings of a comparison; raises ConfigError."""
    if "entries" not in config:
        raise ConfigError("the config is no comparison: give one of configs/compare_*.py, or train it by mdc_jax.main")
    found: Comparison = parse_as(Comparison, config.to_dict())
    entries = {name: parse_as(Entry, entry, f"entries.{name}") for name, entry in found.entries.items()}
    if sorted(found.order) != sorted(entries):
        raise ConfigError(f"order={found.order}: name each of the entries {', '.join(entries)} once")
    entries = {name: entries[name] for name in found.order}
    notes = found.notes if found.tuning.learning_rates else (_NOT_TUNED, *found.notes)
    found = dataclasses.replace(found, entries=entries, notes=notes)
    _check(found)
    return found


def without_blind(comparison: Comparison, name: str) -> Comparison:
    """The comparison where an entry is scored beside no decoder without images."""
    entry = dataclasses.replace(comparison.entries[name], blind="")
    return dataclasses.replace(comparison, entries={**comparison.entries, name: entry})


def _check(found: Comparison) -> None:
    tuning, rates = found.tuning, found.tuning.learning_rates
    if not found.entries or not found.seeds:
        raise ConfigError("a comparison needs entries and seeds, and has none")
    for key, seeds in (("seeds", found.seeds), ("tuning.seeds", tuning.seeds)):
        require(len({*seeds}) == len(seeds), key, seeds, "one is there twice, and would count twice")
        require(all(0 <= seed < 2**32 for seed in seeds), key, seeds, "seeds are from 0 to 4,294,967,295")
    require(found.steps >= 0, "steps", found.steps, "must be 1 or more, or 0 for those of the base config")
    require(found.timing_steps >= 1, "timing_steps", found.timing_steps, "must be at least 1")
    require(all(rate > 0 for rate in rates), "tuning.learning_rates", rates, "must be above 0")
    require(bool(tuning.seeds) or not rates, "tuning.seeds", tuning.seeds, "give at least one")
    both = {*found.seeds} & {*tuning.seeds}
    if rates and both:
        raise ConfigError(f"tuning.seeds: {sorted(both)} are reported; learning rates are chosen with others")
    if found.equal != "steps" and not found.steps:
        raise ConfigError(f"steps=0: equal {found.equal} are those of so many steps of the first entry: say how many")
    for name, entry in found.entries.items():
        _check_entry(found, name, entry)


def _check_entry(found: Comparison, name: str, entry: Entry) -> None:
    if not name.isidentifier():
        raise ConfigError(f'entries: "{name}": write a letter, then letters, digits and "_"')
    for key in ("lr", "steps", "seeds"):
        value = getattr(entry, key)
        require(value >= 0, f"entries.{name}.{key}", value, "must be above 0, or 0 for what the others have")
    # What the comparison sets itself, so that a setting of the same would be lost.
    own = {
        "seed": ("seeds", True),
        "duration": ("steps", bool(entry.steps or found.steps)),
        "optimizer.lr": (f"entries.{name}.lr", bool(entry.lr or entry.lr_of or found.tuning.learning_rates)),
    }
    for text in (*found.settings, *entry.settings):
        instead, lost = own.get(text.partition("=")[0], ("", False))
        if lost:
            raise ConfigError(f"entries.{name}: {text!r}: a comparison sets this itself: give {instead}")
    for key, other in (("blind", entry.blind), ("lr_of", entry.lr_of)):
        if other and other not in found.entries:
            hint = did_you_mean(other, found.entries)
            raise ConfigError(f'entries.{name}.{key}: there is no entry "{other}"{hint}')
        if other and getattr(found.entries[other], key):
            raise ConfigError(f'entries.{name}.{key}: "{other}" has one itself: name an entry that has none')
