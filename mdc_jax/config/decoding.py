"""Which settings of `Decoding` go together, and which an objective can use."""

import dataclasses
import math

from mdc_jax.config import sections
from mdc_jax.config.errors import ConfigError

_RANGES = (
    (
        "temperature",
        lambda value: value == 0 or 1e-6 <= value < math.inf,
        "0 (the likeliest) or from 1e-6 on, and finite",
    ),
    ("top_p", lambda value: 0 < value <= 1, "a share, in (0, 1]"),
    ("guidance", lambda value: 0 <= value <= 1000, "0 (none) to 1000"),
    ("beams", lambda value: value >= 1, "at least 1"),
    ("steps", lambda value: 0 <= value <= 10_000, "0 (one token a step) to 10,000"),
    ("threshold", lambda value: 0 <= value < 1, "a probability, in [0, 1)"),
    ("entropy_bound", lambda value: value >= 0, "0 (off) or more nats"),
    ("remask", lambda value: 0 <= value < 1, "a share, in [0, 1)"),
)


def check(decoding: sections.Decoding, objective: sections.Objective) -> None:
    """Raises ConfigError for a setting out of range, at odds with another, or of no use to the objective."""
    for field in dataclasses.fields(decoding):
        choices = field.metadata.get("choices")
        if choices:
            fix = f"choose one of {', '.join(choices)}"
            _require(getattr(decoding, field.name) in choices, decoding, field.name, fix)
    for name, fits, expected in _RANGES:
        _require(fits(getattr(decoding, name)), decoding, name, f"expected {expected}")
    changed = {field.name for field in dataclasses.fields(decoding) if getattr(decoding, field.name) != field.default}
    for name in sorted(changed - {*objective.decoding}):
        fix = f'the objective "{objective.name}" cannot use it; it takes {", ".join(objective.decoding)}'
        raise _unfit(decoding, name, fix)

    paces = [name for name in ("steps", "threshold", "entropy_bound") if name in changed]
    for name in paces[1:]:
        raise _unfit(decoding, name, f"{paces[0]} already says how many tokens a step reveals: set one of them")
    if "remask" in changed:
        for name in ("threshold", "entropy_bound"):
            _require(
                name not in changed, decoding, name, "remask needs a number of steps: set steps instead, or leave 0"
            )
    if decoding.temperature == 0:
        _require("top_p" not in changed, decoding, "top_p", "nothing is drawn at temperature=0: raise that, or set 1")
    else:
        _require("beams" not in changed, decoding, "beams", "beams search for the likeliest caption: set temperature=0")
    if "guidance" in changed:
        fix = "the null memory was never trained: objective.null_image_rate is 0"
        _require(objective.null_image_rate > 0, decoding, "guidance", fix)


def check_length(decoding: sections.Decoding, objective: sections.Objective, fix: str = "") -> None:
    """Raises ConfigError for a call without lengths where settings or objective need them.

    `fix` is what the caller of another interface is to do about it.
    """
    if decoding.length != "model":
        whose = "drawn from the lengths of training captions" if decoding.length == "training" else "of the captions"
        raise ConfigError(f'decoding.length="{decoding.length}": {fix or f"give `length`, {whose}"}')
    if setting := needs_length(objective):
        fix = fix or 'set decoding.length="training", or train without it'
        raise ConfigError(f'decoding.length="model": objective.{setting} has no length law: {fix}')


def needs_length(objective: sections.Objective) -> str:
    """The setting with which a model learns no law of lengths, so that each has to be given; "" where there is none."""
    if getattr(objective, "padding", "") == "known":
        return 'padding="known"'
    if not getattr(objective, "mask_eos", True):
        return "mask_eos=False"
    # How often all is masked depends on the number of words, which positions do not tell.
    words = getattr(objective, "mask_words", False) and objective.padding == "hidden"
    return "mask_words=True" if words else ""


def _require(condition: bool, decoding: sections.Decoding, name: str, fix: str) -> None:
    if not condition:
        raise _unfit(decoding, name, fix)


def _unfit(decoding: sections.Decoding, name: str, fix: str) -> ConfigError:
    return ConfigError(f"decoding.{name}={getattr(decoding, name)!r}: {fix}")
