"""Random training images, encoded: what p(caption | image) is averaged over to give p(caption).

Shapes: B images of a batch, M images of the bank.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from mdc_jax.config import ConfigError
from mdc_jax.data import images
from mdc_jax.data.sources import open_source
from mdc_jax.data.sources.base import BadRecord
from mdc_jax.evaluators.base import Subject
from mdc_jax.objectives.base import Features, Objective, Params
from mdc_jax.training import sharding

_SEED = 25
_ENCODED_AT_ONCE = 64  # images
_READS = 10  # records that are read for an image, at most


def training_images(subject: Subject, count: int) -> Features:
    """What `encode` finds for random training images, on every device: arrays with the leading axis M = `count`.

    Raises ConfigError where most images cannot be read.
    """
    source = open_source(subject.spec("train"))
    rng = np.random.default_rng(_SEED)
    pictures: list[np.ndarray] = []
    for _ in range(_READS * count):
        if len(pictures) == count:
            break
        try:
            record = source[int(rng.integers(len(source)))]
            pictures.append(images.prepare(record.image, subject.config.image, None))
        except BadRecord:
            continue
    else:
        raise ConfigError(f"most images of {source.spec}, of which {count} say p(caption), cannot be read")
    everywhere = sharding.replicated(subject.mesh)
    parts = [
        encode(
            subject.objective,
            subject.params,
            jax.device_put(np.stack(pictures[start : start + _ENCODED_AT_ONCE]), everywhere),
        )
        for start in range(0, count, _ENCODED_AT_ONCE)
    ]
    return jax.device_put(jax.tree.map(lambda *rows: jnp.concatenate(rows), *parts), everywhere)


@functools.partial(jax.jit, static_argnums=0)
def encode(objective: Objective, params: Params, pictures: jax.Array) -> Features:
    """What scorers need of images u8[B, H, W, 3]."""
    features = objective.encode(params, pictures)
    return {name: features[name] for name in ("tokens", "pooled")}
