"""Durations as text: "9000 steps", "20 epochs", "1e6 examples"; a bare number counts steps."""

import math
import re

_UNITS = ("steps", "epochs", "examples")
_MOST = 1e15  # of any unit: centuries, so that a larger amount is a mistake


def split(text: str) -> tuple[float, str]:
    """Splits a duration into its amount and unit; ValueError where it is none."""
    match = re.fullmatch(r"\s*([0-9][0-9_]*(?:\.[0-9]+)?(?:e[0-9]+)?)\s*([a-z]*)\s*", str(text))
    unit = (match[2].rstrip("s") + "s" if match[2] else "steps") if match else ""
    if not match or unit not in _UNITS or float(match[1]) > _MOST:
        raise ValueError(
            f'"{text}" is no duration; write an amount up to {_MOST:g} and a unit ({", ".join(_UNITS)}), as in '
            '"9000 steps"'
        )
    return float(match[1]), unit


def steps(text: str, *, batch_size: int, examples_per_epoch: int) -> int:
    """Training steps that a duration takes, rounded up; a duration above 0 is at least one step."""
    amount, unit = split(text)
    examples = {"steps": batch_size, "epochs": examples_per_epoch, "examples": 1}[unit] * amount
    return math.ceil(examples / batch_size)


def window(text: str) -> tuple[int, int] | None:
    """Reads "10:15", the steps after the 10th up to the 15th; "" is None. Raises ValueError for anything else."""
    if not text:
        return None
    first, _, last = text.partition(":")
    if not (first.isdigit() and last.isdigit() and int(first) < int(last)):
        raise ValueError(f'"{text}" is no window of steps: write FIRST:LAST, as in "10:15"')
    return int(first), int(last)
