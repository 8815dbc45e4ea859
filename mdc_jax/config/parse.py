"""ConfigDict → dataclasses. An unknown or mistyped key fails with its name, its value and the fix."""

import dataclasses
import difflib
import json
import math
import re
import types
import typing
from collections.abc import Mapping
from typing import Any

import ml_collections

from mdc_jax.config import duration, sections

# Far above those of any model. A config may come with a checkpoint from a stranger: what it asks for must not fill the
# memory before it is compared with the weights.
_LARGEST = {"patch": 2**10, "width": 2**14, "depth": 2**10, "heads": 2**10, "mlp_dim": 2**18}
_LARGEST_IMAGE, _MOST_PATCHES, _MOST_TOKENS = 2**13, 2**7, 2**16  # pixels and patches of a side, tokens of a caption
_EVALUATOR_NAME = re.compile(r"\w[\w.-]*")

_SWITCH = {"": True, "true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class ConfigError(ValueError):
    """A setting that cannot work; the message names the key, the value and the fix."""


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
    return to_dict(_section(cls, {"type": type_, **settings}, f"evaluators.{type_}"))


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


_COUNTS = ("examples", "train_examples", "validation_examples", "test_examples")


def parse(config: ml_collections.ConfigDict | Mapping[str, Any]) -> sections.Config:
    """Checks a config and returns it as dataclasses; raises ConfigError."""
    raw = config.to_dict() if isinstance(config, ml_collections.ConfigDict) else dict(config)
    resolved = _section(sections.Config, _renewed(raw), "")
    _check(resolved)
    return resolved


def parse_as(cls: type, values: Mapping[str, Any], path: str = "") -> Any:
    """Checks the keys and types of another dataclass of settings than `Config`; raises ConfigError, with `path` before
    the key."""
    return _section(cls, values, path)


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


def _section(cls: type, values: Any, path: str) -> Any:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path}={values!r}: expected a section with the keys {sorted(typing.get_type_hints(cls))}")
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    arguments = {}
    for key, value in values.items():
        name = f"{path}.{key}".lstrip(".")
        if key not in fields:
            raise ConfigError(f'unknown key "{name}" (value {value!r}){did_you_mean(key, fields)}')
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
        return _section(_variant(sections.OBJECTIVES, value.get("name"), "objective.name"), value, name)
    if name == "evaluators":
        for key in value:
            # It becomes the name of a folder below the workdir.
            _require(bool(_EVALUATOR_NAME.fullmatch(key)), "evaluators", key, "a name has letters, digits, _, - and .")
        return {
            key: _section(
                _variant(sections.EVALUATORS, entry.get("type"), f"{name}.{key}.type"), entry, f"{name}.{key}"
            )
            for key, entry in value.items()
        }
    if dataclasses.is_dataclass(hint):
        return _section(hint, value, name)
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


def _require(condition: bool, key: str, value: Any, fix: str) -> None:
    if not condition:
        raise ConfigError(f"{key}={value!r}: {fix}")


def _check(config: sections.Config) -> None:
    """What no type can say."""
    durations = {
        "duration": config.duration,
        "optimizer.warmup": config.optimizer.warmup,
        "checkpoint.every": config.checkpoint.every,
        "log.every": config.log.every,
        **{
            f"evaluators.{name}.every": entry.every for name, entry in config.evaluators.items() if entry.every != "end"
        },
    }
    for key, text in durations.items():
        try:
            amount, _ = duration.split(text)
        except ValueError as error:
            raise ConfigError(f"{key}: {error}") from None
        _require(amount > 0 or key == "optimizer.warmup", key, text, "must be above 0")

    try:
        duration.window(config.log.profile)
    except ValueError as error:
        raise ConfigError(f"log.profile: {error}") from None

    data, image, encoder = config.data, config.image, config.model.encoder
    for key, value in (
        ("data.batch_size", data.batch_size),
        ("data.captions_per_image", data.captions_per_image),
        ("data.threads", data.threads),
        ("data.prefetch", data.prefetch),
        ("image.size", image.size),
        ("optimizer.accumulation", config.optimizer.accumulation),
        ("checkpoint.keep_latest", config.checkpoint.keep_latest),
    ):
        _require(value >= 1, key, value, "must be at least 1")
    _require(
        data.max_tokens >= 2, "data.max_tokens", data.max_tokens, "a caption needs room for a token and EOS: at least 2"
    )
    _require(
        list(data.buckets) == sorted({*data.buckets}) and min(data.buckets, default=2) >= 2,
        "data.buckets",
        data.buckets,
        "lengths of at least 2 tokens, ascending; () for none",
    )
    _require(
        not data.buckets or data.buckets[-1] == data.max_tokens,
        "data.buckets",
        data.buckets,
        f"the last one must be data.max_tokens={data.max_tokens}",
    )
    _require(data.readers >= 0, "data.readers", data.readers, "a number of records; 0: measured")
    untrainable = isinstance(config.objective, sections.ImageEncoder)
    _require(bool(data.train) or untrainable, "data.train", data.train, 'name a source, as in "scenes:train"')
    _require(0 < image.random_crop <= 1, "image.random_crop", image.random_crop, "a share of the area, in (0, 1]")
    _require(0 <= image.color_jitter < 1, "image.color_jitter", image.color_jitter, "a share, in [0, 1)")
    for key in ("mean", "std"):
        _require(
            len(getattr(image, key)) == 3, f"image.{key}", getattr(image, key), "give one value each for R, G and B"
        )

    patch = encoder.patch or _patch_of(encoder.variant)
    _require(
        image.size % patch == 0,
        "image.size",
        image.size,
        f"patches of {patch} pixels (model.encoder) do not divide it; nearest sizes that work: "
        f"{max(image.size // patch, 1) * patch} and {(image.size // patch + 1) * patch}",
    )
    accumulation = config.optimizer.accumulation
    _require(
        data.batch_size % accumulation == 0,
        "data.batch_size",
        data.batch_size,
        f"must be a multiple of optimizer.accumulation={accumulation}",
    )
    optimizer = config.optimizer
    for key, value, fits, range_ in (
        ("optimizer.lr", optimizer.lr, 0 < optimizer.lr < math.inf, "above 0"),
        ("optimizer.b1", optimizer.b1, 0 <= optimizer.b1 < 1, "in [0, 1)"),
        ("optimizer.b2", optimizer.b2, 0 <= optimizer.b2 < 1, "in [0, 1)"),
        ("optimizer.weight_decay", optimizer.weight_decay, 0 <= optimizer.weight_decay < math.inf, "0 or more"),
        ("optimizer.clip_norm", optimizer.clip_norm, 0 <= optimizer.clip_norm < math.inf, "0 (none) or more"),
        ("model.encoder.token_keep", encoder.token_keep, 0 < encoder.token_keep <= 1, "a share, in (0, 1]"),
        (
            "model.decoder.memory_keep",
            config.model.decoder.memory_keep,
            0 < config.model.decoder.memory_keep <= 1,
            "a share, in (0, 1]",
        ),
        ("data.max_bad_share", data.max_bad_share, 0 <= data.max_bad_share <= 1, "a share, from 0 to 1"),
        ("checkpoint.keep_best", config.checkpoint.keep_best, config.checkpoint.keep_best >= 0, "0 or more"),
        ("log.watchdog", config.log.watchdog, 0 <= config.log.watchdog < math.inf, "0 (never) or more"),
        ("image.std", image.std, all(0 < value < math.inf for value in image.std), "above 0"),
        ("tokenizer.train_captions", config.tokenizer.train_captions, config.tokenizer.train_captions > 0, "above 0"),
        ("seed", config.seed, config.seed >= 0, "0 or more"),
        ("data.max_tokens", data.max_tokens, data.max_tokens <= _MOST_TOKENS, f"at most {_MOST_TOKENS:,}"),
        *(
            (f"model.{part}.{name}", size, 0 <= size <= _LARGEST[name], f"0 (the default) to {_LARGEST[name]:,}")
            for part in ("encoder", "decoder", "text_encoder")
            for name in _LARGEST
            for size in [getattr(getattr(config.model, part), name, 0)]
        ),
        ("image.size", image.size, image.size <= min(_LARGEST_IMAGE, _MOST_PATCHES * patch), _sides(patch)),
        *(
            (f"evaluators.{entry_name}.{name}", size, size >= 1, "at least 1")
            for entry_name, entry in config.evaluators.items()
            for name in ("batch_size", "raw_size", "blind_images", "texts_at_once", *_COUNTS)
            for size in [getattr(entry, name, 1)]
        ),
        *(
            (f"evaluators.{entry_name}.{name}", size, size >= 0 and size != alone, meaning)
            for entry_name, entry in config.evaluators.items()
            for name, alone, meaning in (("l2_values", 1, "0 (a search), 2 or more"), ("shots", -1, "0 (all) or more"))
            for size in [getattr(entry, name, 0)]
        ),
    ):
        _require(fits, key, value, f"must be {range_}")
    for pattern, factor in optimizer.lr_multipliers:
        key = "optimizer.lr_multipliers"
        _require(0 <= factor < math.inf, key, (pattern, factor), "factors must be 0 (frozen) or more")
        try:
            re.compile(pattern)
        except re.error as error:
            raise ConfigError(f"{key}: {pattern!r} is no regular expression: {error}") from None
    _require(0 <= config.optimizer.ema < 1, "optimizer.ema", config.optimizer.ema, "a decay in [0, 1); 0 turns it off")
    _check_objective(config.objective)

    periodic = {name: entry for name, entry in config.evaluators.items() if entry.every != "end"}
    losses = [f"{name}/loss" for name, entry in periodic.items() if isinstance(entry, sections.HeldOutLoss)]
    _require(
        not periodic or not config.checkpoint.keep_best or config.checkpoint.best_metric in losses,
        "checkpoint.best_metric",
        config.checkpoint.best_metric,
        "must be the loss of a held_out_loss that runs during training: "
        f"{', '.join(losses) or 'there is none, so set checkpoint.keep_best=0'}",
    )


def _check_objective(objective: sections.Objective) -> None:
    settings = dataclasses.asdict(objective)
    for key, fits, fix in (
        ("null_image_rate", lambda rate: 0 <= rate <= 1, "a share of the examples, in [0, 1]"),
        ("parallel_share", lambda share: 0 <= share <= 1, "a share of the examples, in [0, 1]"),
        ("ratio", lambda ratio: 0 < ratio <= 1, "a masking ratio, in (0, 1]"),
        ("interval", lambda ab: 0 <= ab[0] <= ab[1] <= 1 and ab[1] > 0, "masking ratios 0 <= a <= b <= 1, b > 0"),
        ("masks_per_caption", lambda count: count >= 1, "must be at least 1"),
    ):
        if key in settings:
            _require(fits(settings[key]), f"objective.{key}", settings[key], fix)
    if settings.get("padding") == "target":
        mask_eos = settings.get("mask_eos", True)
        _require(mask_eos, "objective.mask_eos", mask_eos, 'padding="target" predicts what a visible EOS gives away')
    if settings.get("masks") == "stratified":
        interval = settings["interval"]
        _require(
            interval == (0.0, 1.0), "objective.interval", interval, "stratified masks need the interval (0.0, 1.0)"
        )


def _patch_of(variant: str) -> int:
    _, _, patch = variant.partition("/")
    fits = re.fullmatch("[1-9][0-9]{0,3}", patch)
    _require(bool(fits), "model.encoder.variant", variant, 'write size and patch, as in "B/16"')
    return int(patch)


def _sides(patch: int) -> str:
    return f"at most {min(_LARGEST_IMAGE, _MOST_PATCHES * patch):,}, {_MOST_PATCHES} patches of {patch} pixels a side"
