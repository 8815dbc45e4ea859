"""ConfigDict → dataclasses. An unknown or mistyped key fails with its name, its value and the fix."""

import dataclasses
import difflib
import json
import re
import types
import typing
from collections.abc import Mapping
from typing import Any

import ml_collections

from mdc_jax.config import sections
from mdc_jax.config.check import check
from mdc_jax.config.errors import ConfigError, require

_EVALUATOR_NAME = re.compile(r"\w[\w.-]*")

_SWITCH = {"": True, "true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def defaults(
    objective: str = "masked_diffusion", evaluators: Mapping[str, Any] | None = None
) -> ml_collections.ConfigDict:
    """A complete config with every key at its default: what a config file starts from.

    Args:
      objective: name of the objective, which decides the keys of `config.objective`.
      evaluators: name → `evaluator(...)`.
    """
    config = to_dict(sections.Config(objective=_variant(sections.OBJECTIVES, objective, "objective.name")()))
    config["evaluators"] = dict(evaluators or {})
    return ml_collections.ConfigDict(config).lock()


def evaluator(type_: str, **settings: Any) -> dict[str, Any]:
    """The section of an evaluator, complete with defaults."""
    cls = _variant(sections.EVALUATORS, type_, "evaluators.*.type")
    return to_dict(parse_as(cls, {"type": type_, **settings}, f"evaluators.{type_}"))


def applicable(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """The config without the evaluators that its objective cannot use: of captions that it does not write or score."""
    objective = _variant(sections.OBJECTIVES, config.objective.name, "objective.name")
    of_captions = () if objective.writes_captions else sections.OF_WRITERS
    of_captions += () if objective.scores_captions else sections.OF_SCORERS
    with config.unlocked():
        for name in [name for name, entry in config.evaluators.items() if entry.type in of_captions]:
            del config.evaluators[name]
    return config


def parse_argument(text: str | None, **known: Any) -> ml_collections.ConfigDict:
    """Parses the argument of a config file, as in `configs/scenes.py:runlocal,layout=free`.

    Args:
      text: comma-separated `key=value`, or `key` alone for a switch; None is the empty text.
      **known: every key that may be given, with its default, whose type the value takes.
    """
    values = dict(known)
    for item in filter(None, (text or "").split(",")):
        key, _, value = item.partition("=")
        if key not in known:
            raise ConfigError(f'the config knows no argument "{key}"{did_you_mean(key, known)}')
        kind = type(known[key])
        if kind is bool:
            if value.lower() not in _SWITCH:
                raise ConfigError(f'argument {key}="{value}": expected true or false, or {key} alone for true')
            values[key] = _SWITCH[value.lower()]
        else:
            try:
                values[key] = kind(value)
            except ValueError:
                raise ConfigError(f'argument {key}="{value}": expected {kind.__name__}, as in {known[key]!r}') from None
    return ml_collections.ConfigDict(values).lock()


def parse(config: ml_collections.ConfigDict | Mapping[str, Any]) -> sections.Config:
    """Checks a config and returns it as dataclasses; raises ConfigError."""
    raw = config.to_dict() if isinstance(config, ml_collections.ConfigDict) else dict(config)
    resolved = parse_as(sections.Config, _renewed(raw), "")
    check(resolved)
    return resolved


def to_dict(config: Any) -> dict[str, Any]:
    """Dataclasses as nested dicts of plain values; `parse` takes it back."""
    return dataclasses.asdict(config)


def dumps(config: sections.Config) -> str:
    """The resolved config as text, one line per value, in a fixed order."""
    return json.dumps(to_dict(config), indent=2, sort_keys=True) + "\n"


def _renewed(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config as it is written today.

    That of an older checkpoint has `model.remat` and `model.scan` true or false, a held-out loss that also finds
    log-likelihoods, which the perplexity evaluator does now, and captioning with `temperature`, where there is now
    `decoding`.
    """
    model, entries = raw.get("model"), raw.get("evaluators")
    if isinstance(model, Mapping):
        switches = {name: model[name] for name in ("remat", "scan") if isinstance(model.get(name), bool)}
        raw = {**raw, "model": {**model, **{name: "on" if on else "off" for name, on in switches.items()}}}
    if isinstance(entries, Mapping):
        raw = {**raw, "evaluators": {name: _renewed_evaluator(entry) for name, entry in entries.items()}}
    return raw


def _renewed_evaluator(entry: Any) -> Any:
    if not isinstance(entry, Mapping):
        return entry
    kept = dict(entry)
    if entry.get("type") == sections.HeldOutLoss.type:
        kept.pop("log_likelihood", None)
    if entry.get("type") == sections.Captioning.type and "temperature" in kept:
        kept["decoding"] = {"temperature": kept.pop("temperature")}
    return kept


def parse_as(cls: type, values: Any, path: str = "") -> Any:
    """Settings as a dataclass, whose keys and types are checked; raises ConfigError, with `path` before the key."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path}={values!r}: expected a section with the keys {sorted(typing.get_type_hints(cls))}")
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    arguments = {}
    for key, value in values.items():
        name = f"{path}.{key}".lstrip(".")
        if key not in fields:
            hint = ""
            if path == "objective":  # as where the name alone was changed, and the settings are still of another one
                hint = "; another objective is an argument of the config, as in configs/scenes.py:objective=clip"
            raise ConfigError(f'unknown key "{name}" (value {value!r}){did_you_mean(key, fields)}{hint}')
        arguments[key] = _value(hints[key], value, name)
        choices = fields[key].metadata.get("choices")
        if choices and value not in choices:
            raise ConfigError(
                f"{name}={value!r}: choose one of {', '.join(choices)}{did_you_mean(str(value), choices)}"
            )
    return cls(**arguments)


def _value(hint: Any, value: Any, name: str) -> Any:
    sections_ = [value, *value.values()] if name == "evaluators" and isinstance(value, Mapping) else [value]
    if name in ("objective", "evaluators") and not all(isinstance(entry, Mapping) for entry in sections_):
        raise ConfigError(f"{name}={value!r}: expected a section, as `defaults` and `evaluator` make it")
    if name == "objective":
        if value.get("name") == sections.ImageEncoder.name:  # to be evaluated, not chosen
            return sections.ImageEncoder()
        return parse_as(_variant(sections.OBJECTIVES, value.get("name"), "objective.name"), value, name)
    if name == "evaluators":
        for key in value:
            # It becomes the name of a folder below the workdir.
            require(bool(_EVALUATOR_NAME.fullmatch(key)), "evaluators", key, "a name has letters, digits, _, - and .")
        return {
            key: parse_as(
                _variant(sections.EVALUATORS, entry.get("type"), f"{name}.{key}.type"), entry, f"{name}.{key}"
            )
            for key, entry in value.items()
        }
    if dataclasses.is_dataclass(hint):
        return parse_as(hint, value, name)
    if typing.get_origin(hint) is tuple and isinstance(value, list | tuple):
        items = typing.get_args(hint)
        kinds = [items[0]] * len(value) if items[-1] is Ellipsis else items
        if len(kinds) != len(value):
            raise ConfigError(f"{name}={value!r}: expected {len(kinds)} values")
        return tuple(_value(kind, item, name) for kind, item in zip(kinds, value, strict=True))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    expected = hint if isinstance(hint, type) else typing.get_origin(hint) or types.NoneType
    if not isinstance(value, expected) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"{name}={value!r}: expected {expected.__name__}, got {type(value).__name__}")
    return value


def _variant(registry: Mapping[str, type], name: Any, path: str) -> type:
    if not isinstance(name, str) or name not in registry:
        raise ConfigError(f'{path}="{name}": choose one of {", ".join(registry)}{did_you_mean(str(name), registry)}')
    return registry[name]


def did_you_mean(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f'; did you mean "{close[0]}"?' if close else f"; known: {', '.join(sorted(known))}"
