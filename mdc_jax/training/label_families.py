"""What an objective that learns labels has to know of the data before there is any: which families, and how large."""

import dataclasses

from mdc_jax.config import ConfigError, sections
from mdc_jax.data.sources.base import Source


def filled(config: sections.Config, source: Source) -> sections.Config:
    """The config with the families of its training source, where its objective learns labels; else as it is.

    Raises ConfigError where the source has none, or not those that the config names.
    """
    if not hasattr(config.objective, "families"):
        return config
    offered = tuple((name, family.kind, len(family.names), family.bound) for name, family in source.families.items())
    if not offered:
        raise ConfigError(f'objective "{config.objective.name}" learns labels, but {source.spec} has none')
    families = config.objective.families or offered
    for family in families:
        if family not in offered:
            raise ConfigError(f"objective.families has {family}, but {source.spec} has {offered}: leave it empty")
    return dataclasses.replace(config, objective=dataclasses.replace(config.objective, families=families))
