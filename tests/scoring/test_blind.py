import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdc_jax.scoring import blind, elbo
from mdc_jax.scoring.score import Score, exact

RNG = np.random.default_rng(0)
BANK = {"tokens": jnp.asarray(RNG.normal(size=(64, 5, 3)), jnp.float32)}
CAPTIONS = {"text": jnp.asarray(RNG.integers(0, 3, (4, 2, 6))), "length": jnp.full((4, 2), 6)}


def scorer(params, features, captions, key):
    """log p = the sum over tokens of what the image's mean says of them."""
    means = features["tokens"].mean(1)
    token = captions["text"].reshape(len(means), -1)
    return exact(jnp.take_along_axis(means, token, axis=1).reshape(captions["text"].shape).sum(-1) - params)


def noisy(params, features, captions, key):
    """A Monte-Carlo scorer whose loss depends on the image."""
    means = features["tokens"].mean((1, 2))[:, None, None]
    nll = lambda masked: jnp.where(masked, 1 + captions["text"] * masked.sum(-1, keepdims=True) + means, 0.0)  # noqa: E731
    return elbo.elbo(nll, jnp.ones(captions["text"].shape, bool), key)


def test_blind_is_the_log_of_the_mean_over_images():
    found = jax.jit(lambda: blind.blind(scorer, 2.0, BANK, CAPTIONS, jax.random.key(0)))()
    means, text = np.asarray(BANK["tokens"], np.float64).mean(1), np.asarray(CAPTIONS["text"])
    expected = np.log(np.mean([np.exp(mean[text].sum(-1) - 2.0) for mean in means], axis=0))
    np.testing.assert_allclose(found.value, expected, rtol=1e-4)
    assert found.kind == "exact" and not found.standard_error.any()


def test_independent_errors_of_images_add_up_in_quadrature_by_their_share():
    def uncertain(params, features, captions, key):
        return dataclasses.replace(scorer(params, features, captions, key), standard_error=errors(features))

    def errors(features):
        return jnp.abs(features["tokens"].mean((1, 2)))[:, None] * jnp.ones((1, 2))

    found = jax.jit(lambda: blind.blind(uncertain, 0.0, BANK, CAPTIONS, jax.random.key(0)))()
    tokens, text = np.asarray(BANK["tokens"], np.float64), np.asarray(CAPTIONS["text"])
    likelihood = np.array([np.exp(mean[text].sum(-1)) for mean in tokens.mean(1)])
    share = likelihood / likelihood.sum(0)
    own = np.abs(tokens.mean((1, 2)))[:, None, None]
    np.testing.assert_allclose(found.standard_error, np.sqrt(np.sum((share * own) ** 2, 0)), rtol=1e-4)


def test_debiasing_takes_away_all_that_the_image_does_not_say():
    """All images alike: image and bank say the same, with the same random numbers, so that nothing is left."""
    alike = {"tokens": jnp.tile(BANK["tokens"][:1], (64, 1, 1))}
    own = {"tokens": jnp.tile(BANK["tokens"][:1], (4, 1, 1))}
    key = jax.random.key(1)
    score, prior = jax.jit(lambda key: (noisy(0, own, CAPTIONS, key), blind.blind(noisy, 0, alike, CAPTIONS, key)))(key)
    assert (score.standard_error > 0.01).all()
    np.testing.assert_allclose(prior.standard_error, score.standard_error, rtol=1e-3)
    for exponent in blind.EXPONENTS:
        left = blind.debias(score, prior, exponent)
        np.testing.assert_allclose(left.value, (1 - exponent) * score.value, atol=1e-4)
        np.testing.assert_allclose(left.standard_error, (1 - exponent) * score.standard_error, atol=1e-4)
        assert left.kind == ("heuristic" if exponent else "bound")


def test_replicates_of_the_blind_score_have_its_value_as_their_mean_and_its_spread():
    copies = {**CAPTIONS, "text": jnp.tile(CAPTIONS["text"][:1], (300, 1, 1))}
    found = jax.jit(lambda: blind.blind(noisy, 0, BANK, copies, jax.random.key(1)))()
    np.testing.assert_allclose(found.replicates.mean(0), found.value, rtol=1e-5)
    spread = np.asarray(found.value).std(0)
    assert (np.abs(np.sqrt((np.asarray(found.standard_error) ** 2).mean(0)) / spread - 1) < 0.2).all()


def test_errors_of_scores_without_replicates_are_added():
    score = Score(jnp.zeros((1, 1)), jnp.full((1, 1), 3.0), "bound")
    prior = dataclasses.replace(score, value=jnp.ones((1, 1)), standard_error=jnp.full((1, 1), 8.0))
    left = blind.debias(score, prior, 0.5)
    assert (float(left.value[0, 0]), float(left.standard_error[0, 0])) == (-0.5, 5.0)


def test_a_similarity_has_no_blind_score():
    with pytest.raises(ValueError, match="a similarity is no log-probability"):
        blind.blind(
            lambda *inputs: dataclasses.replace(scorer(*inputs), kind="similarity"),
            0.0,
            BANK,
            CAPTIONS,
            jax.random.key(0),
        )


def test_a_mean_over_few_images_is_called_rough():
    assert blind.images_text(63) == "63 training images (rough: take 64 or more)"
    assert blind.images_text(64) == "64 training images"


def test_the_null_memory_counts_within_2_percent():
    assert blind.null_memory_counts(1.02, 1.0) and blind.null_memory_counts(0.9, 1.0)
    assert not blind.null_memory_counts(1.03, 1.0)
