"""From a config file to one frozen dataclass per section."""

from mdc_jax.config.duration import steps
from mdc_jax.config.errors import ConfigError
from mdc_jax.config.parse import (
    applicable,
    defaults,
    dumps,
    evaluator,
    parse,
    parse_argument,
    parse_as,
    to_dict,
)

__all__ = [
    "ConfigError",
    "applicable",
    "defaults",
    "dumps",
    "evaluator",
    "parse",
    "parse_argument",
    "parse_as",
    "steps",
    "to_dict",
]
