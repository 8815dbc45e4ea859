"""Which values settings can have, and which go together."""

import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from mdc_jax.config import duration, sections
from mdc_jax.config.errors import ConfigError, require


class Range(NamedTuple):
    """The values that a setting of the right type can have."""

    holds: Callable[[Any], bool]
    meaning: str  # "must be ..."


_COUNT = Range(lambda value: value >= 1, "at least 1")
_ABOVE_0 = Range(lambda value: 0 < value < math.inf, "above 0")
_FROM_0 = Range(lambda value: 0 <= value < math.inf, "0 or more")
_FROM_0_NONE = _FROM_0._replace(meaning="0 (none) or more")
_BELOW_1 = Range(lambda value: 0 <= value < 1, "in [0, 1)")
_SHARE = Range(lambda value: 0 <= value <= 1, "a share, in [0, 1]")
_SHARE_ABOVE_0 = Range(lambda value: 0 < value <= 1, "a share, in (0, 1]")

# Far above those of any model. A config may come with a checkpoint from a stranger: what it asks for must not fill the
# memory before it is compared with the weights.
_LARGEST_IMAGE, _MOST_PATCHES, _MOST_TOKENS = 2**13, 2**7, 2**16  # pixels and patches of a side, tokens of a caption


_MOST_A_STEP = 1e-2  # of the weights that a decay takes where no learning rate scales it


def _up_to(most: int) -> Range:
    return Range(lambda value: 0 <= value <= most, f"0 (the default) to {most:,}")


_SIZES = {"width": _up_to(2**14), "depth": _up_to(2**10), "heads": _up_to(2**10), "mlp_dim": _up_to(2**18)}

RANGES: Mapping[str, Mapping[str, Range]] = {
    "data": {
        "batch_size": _COUNT,
        "max_tokens": Range(
            lambda value: 2 <= value <= _MOST_TOKENS, f"at least 2 (a token and EOS), at most {_MOST_TOKENS:,}"
        ),
        "captions_per_image": _COUNT,
        "threads": _COUNT,
        "readers": _FROM_0._replace(meaning="0 (measured) or more"),
        "prefetch": _COUNT,
        "max_bad_share": _SHARE,
    },
    "image": {
        "size": _COUNT,
        "mean": Range(lambda values: len(values) == 3, "a value each for R, G and B"),
        "std": Range(
            lambda values: len(values) == 3 and all(map(_ABOVE_0.holds, values)), "a value above 0 each for R, G and B"
        ),
        "random_crop": _SHARE_ABOVE_0,
        "color_jitter": _BELOW_1,
    },
    "tokenizer": {"train_captions": _COUNT},
    "model.encoder": {**_SIZES, "patch": _up_to(2**10), "token_keep": _SHARE_ABOVE_0},
    "model.decoder": {**_SIZES, "memory_keep": _SHARE_ABOVE_0},
    "model.text_encoder": _SIZES,
    "objective": {
        "null_image_rate": _SHARE,
        "parallel_share": _SHARE,
        "ratio": _SHARE_ABOVE_0,
        "interval": Range(
            lambda ratios: 0 <= ratios[0] <= ratios[1] <= 1 and ratios[1] > 0, "ratios 0 <= a <= b <= 1, b > 0"
        ),
        "masks_per_caption": _COUNT,
    },
    "optimizer": {
        "lr": _ABOVE_0,
        "b1": _BELOW_1,
        "b2": _BELOW_1,
        "weight_decay": _FROM_0,
        "clip_norm": _FROM_0_NONE,
        "accumulation": _COUNT,
        "ema": _BELOW_1,
    },
    "checkpoint": {"keep_latest": _COUNT, "keep_best": _FROM_0_NONE},
    "log": {"watchdog": _FROM_0._replace(meaning="0 (never) or more")},
}
OF_EVALUATORS: Mapping[str, Range] = {
    **dict.fromkeys(("examples", "train_examples", "validation_examples", "test_examples", "batch_size"), _COUNT),
    **dict.fromkeys(("read_factor", "raw_size", "blind_images", "texts_at_once"), _COUNT),
    "l2_values": Range(lambda value: value >= 0 and value != 1, "0 (a search), 2 or more"),
    "shots": _FROM_0._replace(meaning="0 (all) or more"),
    **dict.fromkeys(("untrained_seeds", "picture"), _FROM_0_NONE),
}


def check(config: sections.Config) -> None:
    """Raises ConfigError for what no type can say: a value out of range, or at odds with another."""
    _check_durations(config)
    require(config.seed >= 0, "seed", config.seed, "must be 0 or more")
    for path, ranges in RANGES.items():
        _check_ranges(path, operator.attrgetter(path)(config), ranges)
    for name, entry in config.evaluators.items():
        _check_ranges(f"evaluators.{name}", entry, OF_EVALUATORS)
    _check_image_size(config)
    _check_data(config)
    _check_objective(config)
    _check_optimizer(config.optimizer)
    _check_best_metric(config)


def _check_ranges(path: str, section: object, ranges: Mapping[str, Range]) -> None:
    """Checks those settings that the section has: objectives, evaluators and parts of the model have some each."""
    for name, (holds, meaning) in ranges.items():
        if hasattr(section, name):
            value = getattr(section, name)
            require(holds(value), f"{path}.{name}", value, f"must be {meaning}")


def _check_durations(config: sections.Config) -> None:
    durations = {
        "duration": config.duration,
        "optimizer.warmup": config.optimizer.warmup,
        "checkpoint.every": config.checkpoint.every,
        "log.every": config.log.every,
        **{f"evaluators.{name}.every": entry.every for name, entry in _periodic(config).items()},
    }
    for key, text in durations.items():
        try:
            amount, _ = duration.split(text)
        except ValueError as error:
            end = ', or "end"' if key.startswith("evaluators.") else ""
            raise ConfigError(f"{key}: {error}{end}") from None
        require(amount > 0 or key == "optimizer.warmup", key, text, "must be above 0")
    try:
        duration.window(config.log.profile)
    except ValueError as error:
        raise ConfigError(f"log.profile: {error}") from None


def _check_image_size(config: sections.Config) -> None:
    size = config.image.size
    patch = config.model.encoder.patch or _patch_of(config.model.encoder.variant)
    require(
        size % patch == 0,
        "image.size",
        size,
        f"patches of {patch} pixels (model.encoder) do not divide it; nearest sizes that work: "
        f"{max(size // patch, 1) * patch} and {(size // patch + 1) * patch}",
    )
    most = min(_LARGEST_IMAGE, _MOST_PATCHES * patch)
    require(
        size <= most, "image.size", size, f"must be at most {most:,}, {_MOST_PATCHES} patches of {patch} pixels a side"
    )


def _patch_of(variant: str) -> int:
    _, _, patch = variant.partition("/")
    fits = re.fullmatch("[1-9][0-9]{0,3}", patch)
    require(bool(fits), "model.encoder.variant", variant, 'write size and patch, as in "B/16"')
    return int(patch)


def _check_data(config: sections.Config) -> None:
    data, accumulation = config.data, config.optimizer.accumulation
    trains = not isinstance(config.objective, sections.ImageEncoder)
    require(bool(data.train) or not trains, "data.train", data.train, 'name a source, as in "scenes:train"')
    require(
        data.batch_size % accumulation == 0,
        "data.batch_size",
        data.batch_size,
        f"must be a multiple of optimizer.accumulation={accumulation}",
    )
    if data.buckets:
        ascending = list(data.buckets) == sorted({*data.buckets}) and data.buckets[0] >= 2
        require(ascending, "data.buckets", data.buckets, "must be lengths of at least 2 tokens, ascending")
        last = data.buckets[-1] == data.max_tokens
        require(last, "data.buckets", data.buckets, f"the last one must be data.max_tokens={data.max_tokens}")


def _check_objective(config: sections.Config) -> None:
    objective, memory_keep = config.objective, config.model.decoder.memory_keep
    if getattr(objective, "padding", "") == "target":
        mask_eos = getattr(objective, "mask_eos", True)
        require(mask_eos, "objective.mask_eos", mask_eos, 'padding="target" predicts what a visible EOS gives away')
    if getattr(objective, "masks", "") == "stratified":
        whole = objective.interval == (0.0, 1.0)
        require(whole, "objective.interval", objective.interval, "stratified masks need the interval (0.0, 1.0)")
    require(
        memory_keep == 1 or objective.writes_captions,
        "model.decoder.memory_keep",
        memory_keep,
        f'the objective "{objective.name}" has no decoder: leave it at 1, or use model.encoder.token_keep',
    )


def _check_optimizer(optimizer: sections.Optimizer) -> None:
    decay = optimizer.weight_decay
    require(
        optimizer.name != "adafactor" or decay <= _MOST_A_STEP,
        "optimizer.weight_decay",
        decay,
        f"adafactor takes this share off the weights at every step, whatever the learning rate: give at most "
        f"{_MOST_A_STEP:g}, as the 1e-4 of configs/cappa.py",
    )
    key = "optimizer.lr_multipliers"
    for pattern, factor in optimizer.lr_multipliers:
        require(_FROM_0.holds(factor), key, (pattern, factor), "factors must be 0 (frozen) or more")
        try:
            re.compile(pattern)
        except re.error as error:
            raise ConfigError(f"{key}: {pattern!r} is no regular expression: {error}") from None


def _check_best_metric(config: sections.Config) -> None:
    periodic = _periodic(config)
    losses = [f"{name}/loss" for name, entry in periodic.items() if isinstance(entry, sections.HeldOutLoss)]
    require(
        not periodic or not config.checkpoint.keep_best or config.checkpoint.best_metric in losses,
        "checkpoint.best_metric",
        config.checkpoint.best_metric,
        "must be the loss of a held_out_loss that runs during training: "
        f"{', '.join(losses) or 'there is none, so set checkpoint.keep_best=0'}",
    )


def _periodic(config: sections.Config) -> Mapping[str, sections.Evaluator]:
    """The evaluators that run during training."""
    return {name: entry for name, entry in config.evaluators.items() if entry.every != "end"}
