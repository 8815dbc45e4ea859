"""A small model of random parameters, all of which show in what it computes."""

import dataclasses

import jax
import numpy as np

from mdc_jax.config import sections
from mdc_jax.objectives import build
from mdc_jax.training import checkpoint

ENCODER = sections.Encoder(patch=4, width=24, depth=2, heads=3, mlp_dim=50)
IMAGE = sections.Image(size=12, mean=(50.0, 60.0, 70.0), std=(60.0, 70.0, 80.0))


def model(**changes: object) -> checkpoint.Loaded:
    encoder = dataclasses.replace(ENCODER, **changes)
    config = sections.Config(
        image=IMAGE, model=sections.Model(encoder, sections.Decoder(depth=1)), data=sections.Data(train="scenes:train")
    )
    objective = build(config.objective, model=config.model, image=IMAGE, vocab_size=12, max_tokens=6)
    leaves, structure = jax.tree.flatten(jax.eval_shape(objective.init, jax.random.key(0)))
    rng = np.random.default_rng(0)
    params = structure.unflatten([0.4 * rng.standard_normal(leaf.shape).astype(np.float32) for leaf in leaves])
    return checkpoint.Loaded(config, objective, params, None, None, 1, {})
