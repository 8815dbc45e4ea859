"""Training may leave image tokens out at random; what is left out has no effect, and costs nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdc_jax import objectives
from mdc_jax.config import sections
from mdc_jax.objectives.vision import random_subsets
from tests.objectives import tiny


def build(settings: sections.Objective, *, token_keep: float = 1.0, memory_keep: float = 1.0) -> objectives.Objective:
    encoder = sections.Encoder(patch=4, width=16, depth=1, heads=2, mlp_dim=32, token_keep=token_keep)
    model = sections.Model(encoder=encoder, decoder=sections.Decoder(depth=1, memory_keep=memory_keep))
    image = sections.Image(size=tiny.SIZE)
    return objectives.build(settings, model=model, image=image, vocab_size=tiny.VOCAB, max_tokens=tiny.TOKENS)


def test_subsets_have_no_repeats_and_are_even():
    drawn = np.asarray(random_subsets(jax.random.key(0), 6000, 5, 2))
    assert (drawn[:, 0] != drawn[:, 1]).all()
    np.testing.assert_allclose(np.bincount(drawn.ravel()) / 6000, 0.4, atol=0.03)


@pytest.mark.parametrize("settings", [sections.MaskedDiffusion(), sections.Clip()], ids=lambda s: s.name)
def test_patches_that_are_left_out_have_no_effect(settings):
    objective = build(settings, token_keep=0.5)
    params = tiny.trained(objective)
    corrupted = objective.corrupt(tiny.batch(4), jax.random.key(0))
    assert "patches" not in corrupted  # evaluation encodes all
    thinned = objective.thin(corrupted, jax.random.key(1))
    assert thinned["patches"].shape == (4, 2)

    def image_with(changed: int) -> np.ndarray:
        """The first image with patch `changed` inverted."""
        image = np.array(corrupted["image"])
        row, column = np.array(divmod(changed, 2)) * 4
        image[0, row : row + 4, column : column + 4] = 255 - image[0, row : row + 4, column : column + 4]
        return image

    loss = jax.jit(lambda image: objective.loss(params, {**thinned, "image": image})[0])
    before = loss(corrupted["image"])
    kept = set(thinned["patches"][0].tolist())
    for patch in range(4):
        assert (abs(loss(image_with(patch)) - before) > 1e-6) == (patch in kept)


def test_the_decoder_sees_the_tokens_that_are_kept():
    objective, whole = build(sections.MaskedDiffusion(), memory_keep=0.5), build(sections.MaskedDiffusion())
    params = tiny.trained(objective)
    thinned = objective.thin(objective.corrupt(tiny.batch(4), jax.random.key(0)), jax.random.key(1))
    assert thinned["memory"].shape == (4, 2) and "patches" not in thinned
    again = objective.thin(objective.corrupt(tiny.batch(16), jax.random.key(0)), jax.random.key(2))
    assert set(np.asarray(again["memory"]).ravel().tolist()) == {0, 1, 2, 3}

    def kept_only(params, image, kept=None):
        tokens, others = encode(params, image)
        return jnp.stack([tokens[i, jnp.asarray(thinned["memory"][i])] for i in range(4)]), others

    expected = whole.loss(params, {key: value for key, value in thinned.items() if key != "memory"})[0]
    encode, whole._encode = whole._encode, kept_only
    actual = objective.loss(params, thinned)[0]
    np.testing.assert_allclose(
        actual, whole.loss(params, {key: value for key, value in thinned.items() if key != "memory"})[0], rtol=1e-5
    )
    assert abs(actual - expected) > 1e-6


def test_all_is_kept_unless_asked_for():
    objective = build(sections.MaskedDiffusion())
    corrupted = objective.corrupt(tiny.batch(2), jax.random.key(0))
    assert objective.thin(corrupted, jax.random.key(1)) == corrupted


def test_only_training_costs_less():
    whole, thinned, blind = (
        build(sections.MaskedDiffusion(), **keep).flops() for keep in ({}, {"token_keep": 0.5}, {"memory_keep": 0.5})
    )
    assert whole["forward"] == thinned["forward"] == blind["forward"]
    assert whole["train"] > blind["train"] > thinned["train"]
