"""Which values settings can have, and which go together."""

import dataclasses
import math
import re

from mdc_jax.config import duration, sections
from mdc_jax.config.errors import ConfigError, require

# Far above those of any model. A config may come with a checkpoint from a stranger: what it asks for must not fill the
# memory before it is compared with the weights.
_LARGEST = {"patch": 2**10, "width": 2**14, "depth": 2**10, "heads": 2**10, "mlp_dim": 2**18}
_LARGEST_IMAGE, _MOST_PATCHES, _MOST_TOKENS = 2**13, 2**7, 2**16  # pixels and patches of a side, tokens of a caption
_COUNTS = ("examples", "train_examples", "validation_examples", "test_examples")


def check(config: sections.Config) -> None:
    """Raises ConfigError for what no type can say: a value out of range, or at odds with another."""
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
        require(amount > 0 or key == "optimizer.warmup", key, text, "must be above 0")

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
        require(value >= 1, key, value, "must be at least 1")
    require(
        data.max_tokens >= 2, "data.max_tokens", data.max_tokens, "a caption needs room for a token and EOS: at least 2"
    )
    require(
        list(data.buckets) == sorted({*data.buckets}) and min(data.buckets, default=2) >= 2,
        "data.buckets",
        data.buckets,
        "lengths of at least 2 tokens, ascending; () for none",
    )
    require(
        not data.buckets or data.buckets[-1] == data.max_tokens,
        "data.buckets",
        data.buckets,
        f"the last one must be data.max_tokens={data.max_tokens}",
    )
    require(data.readers >= 0, "data.readers", data.readers, "a number of records; 0: measured")
    untrainable = isinstance(config.objective, sections.ImageEncoder)
    require(bool(data.train) or untrainable, "data.train", data.train, 'name a source, as in "scenes:train"')
    require(0 < image.random_crop <= 1, "image.random_crop", image.random_crop, "a share of the area, in (0, 1]")
    require(0 <= image.color_jitter < 1, "image.color_jitter", image.color_jitter, "a share, in [0, 1)")
    for key in ("mean", "std"):
        require(
            len(getattr(image, key)) == 3, f"image.{key}", getattr(image, key), "give one value each for R, G and B"
        )

    patch = encoder.patch or _patch_of(encoder.variant)
    require(
        image.size % patch == 0,
        "image.size",
        image.size,
        f"patches of {patch} pixels (model.encoder) do not divide it; nearest sizes that work: "
        f"{max(image.size // patch, 1) * patch} and {(image.size // patch + 1) * patch}",
    )
    accumulation = config.optimizer.accumulation
    require(
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
            for name, alone, meaning in (
                ("l2_values", 1, "0 (a search), 2 or more"),
                ("shots", -1, "0 (all) or more"),
                ("picture", -1, "0 (none) or more"),
            )
            for size in [getattr(entry, name, 0)]
        ),
    ):
        require(fits, key, value, f"must be {range_}")
    for pattern, factor in optimizer.lr_multipliers:
        key = "optimizer.lr_multipliers"
        require(0 <= factor < math.inf, key, (pattern, factor), "factors must be 0 (frozen) or more")
        try:
            re.compile(pattern)
        except re.error as error:
            raise ConfigError(f"{key}: {pattern!r} is no regular expression: {error}") from None
    require(0 <= config.optimizer.ema < 1, "optimizer.ema", config.optimizer.ema, "a decay in [0, 1); 0 turns it off")
    _check_objective(config.objective)
    memory_keep = config.model.decoder.memory_keep
    require(
        memory_keep == 1 or config.objective.writes_captions,
        "model.decoder.memory_keep",
        memory_keep,
        f'the objective "{config.objective.name}" has no decoder: leave it at 1, or use model.encoder.token_keep',
    )

    periodic = {name: entry for name, entry in config.evaluators.items() if entry.every != "end"}
    losses = [f"{name}/loss" for name, entry in periodic.items() if isinstance(entry, sections.HeldOutLoss)]
    require(
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
            require(fits(settings[key]), f"objective.{key}", settings[key], fix)
    if settings.get("padding") == "target":
        mask_eos = settings.get("mask_eos", True)
        require(mask_eos, "objective.mask_eos", mask_eos, 'padding="target" predicts what a visible EOS gives away')
    if settings.get("masks") == "stratified":
        interval = settings["interval"]
        require(interval == (0.0, 1.0), "objective.interval", interval, "stratified masks need the interval (0.0, 1.0)")


def _patch_of(variant: str) -> int:
    _, _, patch = variant.partition("/")
    fits = re.fullmatch("[1-9][0-9]{0,3}", patch)
    require(bool(fits), "model.encoder.variant", variant, 'write size and patch, as in "B/16"')
    return int(patch)


def _sides(patch: int) -> str:
    return f"at most {min(_LARGEST_IMAGE, _MOST_PATCHES * patch):,}, {_MOST_PATCHES} patches of {patch} pixels a side"
