"""From an entry of a comparison to the config of a run."""

from collections.abc import Mapping
from typing import Any

import ml_collections
from etils import epath

from mdc_jax import command
from mdc_jax.comparison.settings import Comparison
from mdc_jax.config import ConfigError, applicable, duration, parse, sections, to_dict


def changed(config: ml_collections.ConfigDict, settings: Mapping[str, Any], who: str) -> ml_collections.ConfigDict:
    """A copy of a config with other values by key, as in "objective.ratio"; `who` sets them, as errors call it.

    Raises ConfigError for a key that the config does not have, or a value that does not fit it.
    """
    found = config.copy_and_resolve_references()
    try:
        found.update_from_flattened_dict(settings)
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"{who} sets {', '.join(settings)}, which does not fit the config with objective "
            f'"{config.objective.name}" ({error}): leave it out, or set keys that this objective has'
        ) from None
    return found


def read_settings(texts: tuple[str, ...], name: str) -> dict[str, Any]:
    """Reads KEY=VALUE each; raises ConfigError for a text that is not of this form."""
    for text in texts:
        if not text.partition("=")[1]:
            raise ConfigError(f'"{name}" has {text!r}: write KEY=VALUE, as in "objective.masks_per_caption=2"')
    return {key: command.literal(value) for key, _, value in (text.partition("=") for text in texts)}


def config_of(
    comparison: Comparison,
    name: str,
    *,
    seed: int,
    steps: int,
    lr: float,
    evaluators: Mapping[str, sections.Evaluator],
    blind: epath.Path | None = None,
) -> sections.Config:
    """The config of a run of an entry.

    Args:
      comparison: its base config, and the settings of all entries.
      name: of the entry.
      seed: of initialisation, masks and data order.
      steps: 0 as the base config says.
      lr: the learning rate; 0 that of the base config.
      evaluators: in place of the base config's; those that the objective has no use for are left out.
      blind: workdir of the entry's decoder without images, for the evaluators that can use one.
    """
    entry = comparison.entries[name]
    config = command.load(base_of(comparison, name, steps=steps))
    with config.unlocked():
        config.evaluators = {key: to_dict(section) for key, section in evaluators.items()}
    settings = {**read_settings(comparison.settings, name), **read_settings(entry.settings, name), "seed": seed}
    settings |= {"duration": f"{steps} steps"} if steps else {}
    settings |= {"optimizer.lr": lr} if lr else {}
    # Short runs have other evaluators, or none.
    absent = [key for key in settings if key.startswith("evaluators.") and key.split(".")[1] not in evaluators]
    config = changed(config, {key: value for key, value in settings.items() if key not in absent}, f'entry "{name}"')
    for section in config.evaluators.values():
        if blind is not None and "blind_workdir" in section:
            section.blind_workdir = str(blind)
    return parse(applicable(config))


def base_of(comparison: Comparison, name: str, *, steps: int) -> str:
    """The base config with its argument for an entry, as --config of `mdc_jax.main` takes it."""
    # Its warm-up depends on the steps.
    argument = f"objective={comparison.entries[name].objective}" + (f",steps={steps}" if steps else "")
    return comparison.base + ("," if ":" in comparison.base else ":") + argument


def total_steps(config: sections.Config) -> int:
    """The steps of a run, whose duration is written in steps; raises ConfigError where it is not."""
    amount, unit = duration.split(config.duration)
    if unit != "steps":
        raise ConfigError(
            f"duration={config.duration}: mdc_jax.compare trains runs whose duration is in steps; with --plan it "
            "prints the commands of mdc_jax.main that train these"
        )
    return int(amount)
