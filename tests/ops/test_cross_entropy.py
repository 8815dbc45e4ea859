"""Loss and gradients at the predicted tokens are those of the definition, on one device and on many."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdc_jax.config import sections
from mdc_jax.ops import cross_entropy, row_chunks
from mdc_jax.training import sharding

WIDTH = 5


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """The logits of these tests are few: they would all be one chunk."""
    monkeypatch.setattr(row_chunks, "_least_bytes", lambda: 0)


def arguments(batch=4, texts=2, tokens=80, vocab=21, share=0.3, seed=0):
    """Hidden states [B, T, L, D], kernel, bias, targets and weights, of which about `share` are not 0."""
    rng = np.random.default_rng(seed)
    shape = (batch, texts, tokens)
    weight = np.where(rng.random(shape) < share, rng.random(shape) + 0.1, 0)
    hidden, kernel, bias = rng.normal(size=(*shape, WIDTH)), rng.normal(size=(WIDTH, vocab)), rng.normal(size=vocab)
    hidden, kernel, bias, weight = (jnp.asarray(x, jnp.float32) for x in (hidden, kernel, bias, weight))
    return hidden, kernel, bias, jnp.asarray(rng.integers(0, vocab, shape)), weight


def definition(hidden, kernel, bias, targets, weight):
    """-log p, whether it is the likeliest token, and gradients of the weighted sum, all in float64."""
    h, k, b, w = (np.asarray(x, np.float64) for x in (hidden, kernel, bias, weight))
    scores = h @ k + b
    p = np.exp(scores - scores.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    one_hot = np.arange(p.shape[-1]) == np.asarray(targets)[..., None]
    slope = w[..., None] * (p - one_hot)
    gradients = slope @ k.T, np.einsum("btld,btlv->dv", h, slope), slope.sum((0, 1, 2))
    return -np.log(p[one_hot].reshape(targets.shape)), scores.argmax(-1) == targets, gradients


def loss_and_gradients(args, split=None):
    def loss(*parameters):
        return cross_entropy.weighted_cross_entropy(*parameters, *args[3:], split)

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))(*args[:3])


def assert_as_defined(args, split=None):
    weight = args[4]
    nll, best, expected = definition(*args)
    (loss, right), gradients = loss_and_gradients(args, split)
    np.testing.assert_allclose(loss, np.sum(weight * nll), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(right, best & (weight != 0))
    for actual, wanted in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(actual, wanted, atol=2e-5)
    # Without a gradient another path runs.
    alone, _ = jax.jit(cross_entropy.weighted_cross_entropy, static_argnums=5)(*args, split)
    np.testing.assert_allclose(alone, loss, rtol=1e-6)
    scored, right = jax.jit(cross_entropy.cross_entropy, static_argnums=5)(*args[:4], weight != 0, split)
    np.testing.assert_allclose(scored, np.where(weight != 0, nll, 0), atol=1e-5)
    np.testing.assert_array_equal(right, best & (weight != 0))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 1.0])
def test_loss_and_gradients_are_those_of_the_definition(share):
    assert_as_defined(arguments(share=share))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_few_logits_are_one_chunk(share, monkeypatch):
    monkeypatch.undo()
    assert_as_defined(arguments(share=share))


def test_fewer_rows_than_a_chunk():
    assert_as_defined(arguments(batch=1, texts=1, tokens=3, share=0.7))


def test_rows_that_no_chunk_divides():
    assert_as_defined(arguments(batch=3, texts=1, tokens=47, share=1.0))


def test_a_vocabulary_of_several_blocks():
    assert_as_defined(arguments(batch=1, texts=1, tokens=40, vocab=2 * cross_entropy._BLOCK + 100))


@pytest.mark.parametrize("vocab", [24, 21])  # that two devices can share, and that they cannot
def test_devices_share_rows_and_vocabulary(vocab):
    mesh = sharding.make_mesh(sections.Mesh(data=2, fsdp=2, tensor=2))
    *others, weight = arguments(vocab=vocab)
    uneven = weight.at[:2].set(0)  # devices have different amounts to do
    assert_as_defined((*others, uneven), sharding.split(mesh))


def test_the_gradient_follows_a_factor_of_the_loss():
    args = arguments()
    _, expected = loss_and_gradients(args)
    tripled = jax.grad(lambda h: 3 * cross_entropy.weighted_cross_entropy(h, *args[1:])[0])(args[0])
    np.testing.assert_allclose(tripled, 3 * expected[0], rtol=1e-6)


def test_a_forbidden_token_takes_no_probability():
    hidden, kernel, bias, targets, weight = arguments()
    targets = jnp.where(targets == 2, 4, targets)
    nll, _ = cross_entropy.cross_entropy(hidden, kernel, bias.at[2].set(-jnp.inf), targets, weight != 0)
    others = np.delete(np.arange(bias.size), 2)
    expected, _, _ = definition(hidden, kernel[:, others], bias[others], targets - (targets > 2), weight)
    np.testing.assert_allclose(nll, np.where(weight != 0, expected, 0), atol=1e-5)


def test_of_equal_scores_the_first_is_the_prediction():
    hidden, kernel, bias, targets, weight = arguments(share=1.0)
    _, right = cross_entropy.weighted_cross_entropy(hidden, 0 * kernel, 0 * bias, targets, weight)
    np.testing.assert_array_equal(right, targets == 0)


def test_bfloat16_states_are_summed_in_float32():
    hidden, kernel, bias, targets, weight = arguments(share=1.0)
    hidden = hidden.astype(jnp.bfloat16)
    assert cross_entropy.logits(hidden, kernel, bias).dtype == jnp.float32
    rounded = hidden.astype(jnp.float32), kernel.astype(jnp.bfloat16).astype(jnp.float32)
    (loss, _), gradients = loss_and_gradients((hidden, kernel, bias, targets, weight))
    (expected, _), expected_gradients = loss_and_gradients((*rounded, bias, targets, weight))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert [g.dtype for g in gradients] == [jnp.bfloat16, jnp.float32, jnp.float32]
    for actual, wanted in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(actual.astype(jnp.float32), wanted, atol=0.02 * np.abs(wanted).max())


@pytest.mark.parametrize("vocab", [24, 21])
def test_devices_share_rows_and_vocabulary_in_bfloat16(vocab):
    mesh = sharding.make_mesh(sections.Mesh(data=2, fsdp=2, tensor=2))
    hidden, *others = arguments(vocab=vocab)
    args = hidden.astype(jnp.bfloat16), *others
    (loss, right), gradients = loss_and_gradients(args, sharding.split(mesh))
    (expected, expected_right), expected_gradients = loss_and_gradients(args)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_array_equal(right, expected_right)
    assert [g.dtype for g in gradients] == [jnp.bfloat16, jnp.float32, jnp.float32]
    for actual, wanted in zip(gradients, expected_gradients, strict=True):
        wanted = np.asarray(wanted, np.float32)
        np.testing.assert_allclose(actual.astype(jnp.float32), wanted, atol=0.01 * np.abs(wanted).max())


def test_no_array_has_all_the_logits():
    args = arguments(vocab=1003)
    text = (
        jax.jit(lambda *parameters: loss_and_gradients((*parameters, *args[3:]))).lower(*args[:3]).compile().as_text()
    )
    assert "640,1003]" not in text
    assert "[128,1003]" in text
