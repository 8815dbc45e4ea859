"""What is said of a setting that cannot work."""

from typing import Any


class ConfigError(ValueError):
    """A setting that cannot work; the message names the key, the value and the fix."""


def require(condition: bool, key: str, value: Any, fix: str) -> None:
    """Raises ConfigError unless the condition holds."""
    if not condition:
        raise ConfigError(f"{key}={value!r}: {fix}")
