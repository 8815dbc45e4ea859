"""An encoder gives what the model computes, of any layer, and compiles it once for each size of batches."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdc_jax import features, inference
from mdc_jax.config import ConfigError

CHECKPOINT = pathlib.Path(__file__).parent / "testdata" / "checkpoint_format_1"


@pytest.fixture(scope="module")
def encoder():
    return features.load(CHECKPOINT, batch_size=8)


@pytest.fixture(scope="module")
def images():
    return list(np.random.default_rng(0).integers(0, 256, (11, 48, 48, 3)).astype(np.uint8))


def test_layers_are_those_of_the_network(encoder, images):
    loaded = encoder.loaded
    prepared = jnp.asarray(np.stack([encoder.prepare(image) for image in images]))
    mean, std = (jnp.asarray(value)[None, None, None] for value in (loaded.config.image.mean, loaded.config.image.std))
    network = jax.jit(loaded.objective.encoder.apply)
    last, inside = network({"params": loaded.params["encoder"]}, (prepared - mean) / std)
    assert encoder.layers == len(inside["blocks"])
    for layer, expected in enumerate([inside["stem"], *inside["blocks"][:-1], last]):
        for number in (layer, layer - encoder.layers - 1):
            tokens = encoder(images, "tokens", layer=number)
            np.testing.assert_allclose(tokens, expected, atol=1e-4)
            np.testing.assert_allclose(encoder(images, layer=number), tokens.mean(1), atol=1e-4)


def test_a_model_is_an_encoder(encoder, images):
    model = inference.load(CHECKPOINT, batch_size=8)
    np.testing.assert_array_equal(model(images, "tokens"), encoder(images, "tokens"))
    np.testing.assert_array_equal(model(images), encoder(images))


def test_a_size_is_compiled_once(encoder, images):
    encoder(images)
    before = features._encode._cache_size()
    for count in (11, 3, 8, 1):
        encoder(images[:count])
    assert features._encode._cache_size() == before


def test_what_cannot_be_given_is_said(encoder, images):
    with pytest.raises(ConfigError, match='features "poled": choose one of pooled, tokens'):
        encoder(images, "poled")
    for layer in (encoder.layers + 1, -encoder.layers - 2):
        with pytest.raises(ConfigError, match=f"layer {layer}: the encoder has 0 to {encoder.layers}"):
            encoder(images, layer=layer)
