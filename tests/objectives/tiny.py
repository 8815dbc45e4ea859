"""An objective that runs in milliseconds, and batches for it."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from mdc_jax import objectives
from mdc_jax.config import sections
from mdc_jax.data.batch import EOS_ID, PAD_ID
from mdc_jax.objectives.captioner import Captioner
from mdc_jax.ops.cross_entropy import Split
from tests.models.random_params import random_params

SIZE, VOCAB, TOKENS = 8, 11, 6
FAMILIES = (("things", "presence", 3, False), ("kind", "class", 4, True))  # of labels


def section(name: str) -> sections.Objective:
    """An objective's section at its defaults, with the families of `batch` where it learns labels."""
    cls = sections.OBJECTIVES[name]
    return cls(families=FAMILIES) if hasattr(cls, "families") else cls()


@functools.cache
def build(
    settings: sections.Objective,
    word_starts: Callable[[], np.ndarray] | None = None,
    *,
    vocab_size: int = VOCAB,
    token_keep: float = 1.0,
    split: Split | None = None,
    **model: Any,
) -> Captioner:
    encoder = sections.Encoder(
        patch=4,
        width=16,
        depth=2,
        heads=2,
        mlp_dim=32,
        position="sincos2d",
        position_std=1.0,
        token_keep=token_keep,
    )
    section = sections.Model(encoder=encoder, decoder=sections.Decoder(depth=1), **model)
    sizes = {"image": sections.Image(size=SIZE), "vocab_size": vocab_size, "max_tokens": TOKENS}
    objective = objectives.build(settings, model=section, **sizes, split=split, word_starts=word_starts)
    for name in ("init", "corrupt", "loss", "encode", "length_law"):  # or every operation compiles by itself
        if hasattr(objective, name):
            setattr(objective, name, jax.jit(getattr(objective, name)))
    return objective


def trained(objective: Captioner) -> dict[str, Any]:
    """Parameters none of which is zero, so that everything has an effect."""
    return random_params(objective.init)


def batch(size: int = 4, captions: int = 1, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    length = rng.integers(1, TOKENS + 1, (size, captions)).astype(np.int32)
    text = rng.integers(3, VOCAB, (size, captions, TOKENS)).astype(np.int32)
    np.put_along_axis(text, length[..., None] - 1, EOS_ID, axis=-1)
    text[np.arange(TOKENS)[None, None] >= length[..., None]] = PAD_ID
    image = rng.integers(0, 256, (size, SIZE, SIZE, 3)).astype(np.uint8)
    labels = {
        "label/things": rng.integers(0, 2, (size, 3)).astype(np.uint8),
        "label/kind": rng.integers(-1, 4, size).astype(np.int32),
    }
    return {"image": image, "text": text, "length": length, "_mask": np.ones(size, bool), **labels}
