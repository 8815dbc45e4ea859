import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdc_jax.decoding import sampling
from mdc_jax.decoding.guidance import guided

PROBABILITIES = np.array([0.05, 0.4, 0.1, 0.25, 0.2])


def draws(temperature, top_p=1.0, count=20_000):
    logits = jnp.broadcast_to(jnp.log(jnp.asarray(PROBABILITIES, jnp.float32))[None], (count, 5))
    tokens = sampling.choose(logits, jax.random.split(jax.random.key(0), count), temperature, top_p)
    return np.bincount(np.asarray(tokens), minlength=5) / count


def test_temperature():
    np.testing.assert_array_equal(draws(0.0, count=10), [0, 1, 0, 0, 0])
    for temperature in (0.5, 1.0, 2.0):
        expected = PROBABILITIES ** (1 / temperature)
        np.testing.assert_allclose(draws(temperature), expected / expected.sum(), atol=0.015)


@pytest.mark.parametrize(("top_p", "support"), [(0.3, [1]), (0.5, [1, 3]), (0.84, [1, 3, 4]), (0.9, [1, 2, 3, 4])])
def test_top_p_draws_among_the_fewest_that_have_that_share(top_p, support):
    found = draws(1.0, top_p)
    np.testing.assert_array_equal(np.flatnonzero(found), support)
    np.testing.assert_allclose(found[support], PROBABILITIES[support] / PROBABILITIES[support].sum(), atol=0.015)


def test_top_p_is_of_the_tempered_distribution():
    flat = PROBABILITIES**0.2 / np.sum(PROBABILITIES**0.2)
    count = int(np.searchsorted(np.cumsum(np.sort(flat)[::-1]), 0.7)) + 1
    assert np.count_nonzero(draws(5.0, 0.7)) == count == 4


def test_certainty():
    logits = jnp.log(jnp.asarray([PROBABILITIES, [0.5, 0.5, 0, 0, 0]], jnp.float32))
    np.testing.assert_allclose(sampling.certainty(logits, "confidence"), [0.4, 0.5], rtol=1e-5)
    np.testing.assert_allclose(sampling.certainty(logits, "margin"), [0.15, 0.0], rtol=1e-5)
    entropy = -np.sum(PROBABILITIES * np.log(PROBABILITIES))
    np.testing.assert_allclose(sampling.certainty(logits, "entropy"), [-entropy, -np.log(2)], rtol=1e-5)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_the_first_of_equals(monkeypatch, backend):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    np.testing.assert_array_equal(sampling.largest(jnp.array([[1.0, 3, 3], [-jnp.inf] * 3])), [1, 0])


def test_log_probability_is_untempered():
    logits = jnp.array([[1.0, 2.0, -jnp.inf]])
    np.testing.assert_allclose(
        sampling.log_probability(logits, jnp.array([0])), [1 - np.log(np.e + np.e**2)], rtol=1e-5
    )


def test_guided_hidden_states_have_the_guided_logits():
    rng = np.random.default_rng(0)
    c, u = rng.normal(size=(2, 4, 6)).astype(np.float32)
    kernel, bias = rng.normal(size=(6, 9)), rng.normal(size=9)
    logits_c, logits_u = (x @ kernel + bias for x in (c, u))
    for weight in (0.0, 1.5):
        expected = logits_u + (1 + weight) * (logits_c - logits_u)
        np.testing.assert_allclose(np.asarray(guided(c, u, weight=weight)) @ kernel + bias, expected, atol=1e-4)
    assert guided(c, weight=0.0) is c


@pytest.mark.slow
def test_rare_tokens_are_drawn_as_often_as_they_should_be(optimized):
    """32,000 tokens of 3e-8 each, 1e-3 together: JAX's default Gumbel noise draws them 13 times too rarely."""
    rest, rows, vocabulary = 1e-3, 400, 32_000
    logits = jnp.log(jnp.full((rows, vocabulary + 1), rest / vocabulary).at[:, -1].set(1 - rest))
    keys = jax.random.split(jax.random.key(2), (8, rows))
    draw = jax.jit(lambda keys: (sampling.choose(logits, keys, 1.0) < vocabulary).sum())
    assert 1 <= sum(int(draw(some)) for some in keys) <= 9  # 3.2 expected, .25 by default
