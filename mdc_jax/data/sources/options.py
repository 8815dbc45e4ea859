"""The options of a spec: "KEY=VALUE" after a split."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mdc_jax.config.parse import did_you_mean


def read(source: str, items: Iterable[str], readers: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
    """The values of the options that are given, each read by the function of its key.

    Raises:
        ValueError: for an unknown key, one that is given twice, or a value that cannot be read.
    """
    options: dict[str, Any] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals:
            raise ValueError(f"{source}: {item!r} has no value; write KEY=VALUE")
        if key not in readers:
            raise ValueError(f"{source}: {key!r} is unknown{did_you_mean(key, readers)}")
        if key in options:
            raise ValueError(f"{source}: {key!r} is given twice")
        try:
            options[key] = readers[key](value)
        except ValueError as error:
            raise ValueError(f"{source}: {item!r}: {error}") from error
    return options


def check(source: str, key: str, value: object, fits: bool, range_: str) -> None:
    """Raises ValueError for a value outside its range."""
    if not fits:
        raise ValueError(f"{source}: {key}={value} must be {range_}")


def identity(settings: object, later: Mapping[str, Any]) -> dict[str, Any]:
    """The knobs of a dataclass that a fingerprint is made of.

    Those that came `later`, with their defaults, are left out where they have these, so that data sets without them
    keep the fingerprint that they always had.
    """
    knobs = dataclasses.asdict(settings)
    return {name: value for name, value in knobs.items() if name not in later or value != later[name]}
