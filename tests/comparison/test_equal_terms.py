"""What entries of a comparison have in common, for each seed: the encoder that they start from, and the batches."""

import contextlib

import jax
import numpy as np

from mdc_jax import command
from mdc_jax.comparison import entries, settings
from mdc_jax.data.captions import make_tokenizer
from mdc_jax.data.pipeline import TrainBatches
from mdc_jax.data.sources import open_source
from mdc_jax.evaluators.base import objective_of
from mdc_jax.training.state import INIT, key_for
from tests.comparison import tiny

# Captioners share one initialisation, and so do contrastive objectives.
NAMES = ("masked_diffusion", "autoregressive", "clip")


def _configs(seed):
    found = settings.parse(tiny.comparison(4, NAMES))
    return {name: entries.config_of(found, name, seed=seed, steps=4, lr=0.0, evaluators={}) for name in NAMES}


def _encoders(config):
    """Those that training starts from, with the seed of the config and with another one."""
    objective = objective_of(config)
    # What is not returned is not computed: the decoders are left out.
    init = jax.jit(lambda key: objective.init(key)["encoder"])
    return [jax.tree.leaves(jax.device_get(init(key_for(seed, 0, INIT)))) for seed in (config.seed, 4)]


def test_every_objective_starts_from_the_same_encoder():
    (first, another_seed), *others = (_encoders(config) for config in _configs(3).values())
    assert not all(np.array_equal(a, b) for a, b in zip(first, another_seed, strict=True))
    for own, _ in others:
        assert all(np.array_equal(a, b) for a, b in zip(first, own, strict=True))


def _batches(config, tokenizer):
    source = open_source(config.data.train)
    with contextlib.closing(TrainBatches(source, tokenizer, config, position=0)) as own:
        return [next(own) for _ in range(2)]


def test_every_objective_sees_the_same_batches_in_the_same_order():
    configs = _configs(3)
    first = configs["masked_diffusion"]
    tokenizer = make_tokenizer(first, open_source(first.data.train))
    expected = _batches(first, tokenizer)
    for name in ("autoregressive", "clip"):
        other = make_tokenizer(configs[name], open_source(configs[name].data.train))
        assert other.hash == tokenizer.hash
        for got, wanted in zip(_batches(configs[name], other), expected, strict=True):
            assert all(np.array_equal(got[key], wanted[key]) for key in ("image", "text", "length"))
    assert not np.array_equal(_batches(_configs(4)["clip"], tokenizer)[0]["image"], expected[0]["image"])


def test_base_configs_know_objective_and_steps():
    assert command.load(f"{tiny.FILE}:objective=siglip,steps=9").duration == "9 steps"
