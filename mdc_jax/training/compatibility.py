"""What may change between the parts of a run: a resume compares the stored config with the new one."""

import itertools
from collections.abc import Mapping
from typing import Any

from mdc_jax.config import ConfigError, parse, sections, to_dict
from mdc_jax.data.tokenizer import Tokenizer

_MOST_PIECES = 5  # of a diff of tokenizers

# Changing these would make another run of it: refused.
_STRUCTURAL = (
    "seed",
    "init_from",
    "image",
    "tokenizer.algorithm",
    "tokenizer.vocab_size",
    "tokenizer.lower_case",
    "tokenizer.byte_fallback",
    "objective",
    "optimizer.name",
    "optimizer.lr_multipliers",
    "model.encoder",
    "model.decoder",
    "model.text_encoder",
    "data.max_tokens",
    "data.buckets",
    "data.captions_per_image",
    "data.permute_captions",
    "data.repeat_batch",
)
# Changing these is meant: worth no word. Data and tokenizer may lie elsewhere: their hashes are compared.
_FREE = (
    "duration",
    "mesh",
    "log",
    "checkpoint",
    "evaluators",
    "data.threads",
    "data.readers",
    "data.prefetch",
    "model.scan",
    "model.remat",
    "data.train",
    "tokenizer.model",
    "tokenizer.train_captions",
)


def changes(stored: Mapping[str, Any], config: sections.Config) -> dict[str, tuple[Any, Any]]:
    """The settings, by key, in which a config differs from a stored one: (before, now)."""
    before, now = _flat(to_dict(parse(stored))), _flat(to_dict(config))  # an older config lacks newer keys
    keys = sorted({*before, *now})
    return {key: (before.get(key), now.get(key)) for key in keys if before.get(key) != now.get(key)}


def is_free(key: str) -> bool:
    """Whether any resume may change a setting without a word."""
    return _covers(_FREE, key)


def check_resume(stored: Mapping[str, Any], config: sections.Config) -> list[str]:
    """Compares configs; returns a warning for each difference that is allowed.

    Raises ConfigError with all differences that are not.
    """
    changed = changes(stored, config)
    refused = {key for key in changed if _covers(_STRUCTURAL, key)}
    old, new = changed.get("optimizer.ema", (0.0, 0.0))
    if bool(old) != bool(new):
        refused.add("optimizer.ema")
    if refused:
        lines = "\n".join(f"  {key}: {changed[key][0]!r} → {changed[key][1]!r}" for key in sorted(refused))
        raise ConfigError(f"this workdir holds a different run:\n{lines}\nuse another --workdir, or set these back")
    return [f"{key} changed: {old!r} → {new!r}" for key, (old, new) in changed.items() if not is_free(key)]


def check_same(name: str, stored: str, now: str, fix: str) -> None:
    """Raises ConfigError where a hash differs from the stored one."""
    if stored != now:
        raise ConfigError(f"the {name} of this workdir has hash {stored[:16]}, the present one {now[:16]}: {fix}")


def check_tokenizer(stored: Tokenizer, now: Tokenizer) -> None:
    """Raises ConfigError where a tokenizer is not the stored one, with the first of the pieces that differ."""
    if stored.hash == now.hash:
        return
    pieces = [tokenizer.pieces(range(tokenizer.vocab_size)) for tokenizer in (stored, now)]
    changed = [(id_, *pair) for id_, pair in enumerate(itertools.zip_longest(*pieces)) if len({*pair}) > 1]
    lines = [f"  token {id_}: {old!r} → {new!r}" for id_, old, new in changed[:_MOST_PIECES]]
    raise ConfigError(
        "tokenizer.model is not the tokenizer of this workdir:\n"
        f"  vocabulary: {stored.vocab_size:,} → {now.vocab_size:,} tokens, of which {len(changed):,} differ\n"
        + "".join(f"{line}\n" for line in lines or ["  the pieces are the same; their scores or rules are not"])
        + "give the file that the run was started with, or use another --workdir"
    )


def _covers(prefixes: tuple[str, ...], key: str) -> bool:
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            # JSON knows lists only.
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat
