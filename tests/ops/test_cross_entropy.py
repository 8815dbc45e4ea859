import jax
import jax.numpy as jnp
import numpy as np

from mdc_jax.ops import cross_entropy

KEYS = jax.random.split(jax.random.key(0), 4)
HIDDEN, KERNEL = jax.random.normal(KEYS[0], (2, 3, 4, 5)), jax.random.normal(KEYS[1], (5, 6))
BIAS = jax.random.normal(KEYS[2], (6,))
TARGETS = jax.random.randint(KEYS[3], (2, 3, 4), 0, 6)
WHERE = jnp.arange(24).reshape(2, 3, 4) % 3 > 0


def test_equals_the_definition_and_is_zero_elsewhere():
    nll, right = cross_entropy.cross_entropy(HIDDEN, KERNEL, BIAS, TARGETS, WHERE)
    scores = np.asarray(HIDDEN, np.float64) @ np.asarray(KERNEL, np.float64) + np.asarray(BIAS)
    p = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    target = np.take_along_axis(p, np.asarray(TARGETS)[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(nll, np.where(WHERE, -np.log(target), 0), atol=1e-5)
    np.testing.assert_array_equal(right, np.asarray(WHERE) & (target == p.max(-1)))


def test_a_forbidden_token_takes_no_probability():
    bias = BIAS.at[2].set(-jnp.inf)
    nll, _ = cross_entropy.cross_entropy(HIDDEN, KERNEL, bias, jnp.full(TARGETS.shape, 4), WHERE)
    scores = np.delete(np.asarray(HIDDEN @ KERNEL) + np.asarray(BIAS), 2, axis=-1)
    expected = np.log(np.exp(scores).sum(-1)) - scores[..., 3]
    np.testing.assert_allclose(nll, np.where(WHERE, expected, 0), atol=1e-5)


def test_bfloat16_states_are_summed_in_float32():
    scores = cross_entropy.logits(HIDDEN.astype(jnp.bfloat16), KERNEL, BIAS)
    assert scores.dtype == jnp.float32
    rounded = HIDDEN.astype(jnp.bfloat16).astype(jnp.float32), KERNEL.astype(jnp.bfloat16).astype(jnp.float32)
    np.testing.assert_allclose(scores, cross_entropy.logits(*rounded, BIAS), atol=1e-5)
