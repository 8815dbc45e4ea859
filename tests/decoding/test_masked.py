import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdc_jax.decoding import masked

MASK = 3
JOINT = np.random.default_rng(0).dirichlet(np.full(27, 0.5)).reshape(3, 3, 3)


def tabular(tokens):
    """Exact conditionals of three tokens under JOINT, given those that are set: i32[B, 3] → f32[B, 3, 3]."""
    seen = (tokens[..., None] == MASK) | (tokens[..., None] == jnp.arange(3)[None, None])
    first, second, third = (seen[:, i].astype(jnp.float32) for i in range(3))
    joint = jnp.asarray(JOINT, jnp.float32)
    return jnp.log(
        jnp.stack(
            [
                jnp.einsum("abc,zb,zc->za", joint, second, third),
                jnp.einsum("abc,za,zc->zb", joint, first, third),
                jnp.einsum("abc,za,zb->zc", joint, first, second),
            ],
            axis=1,
        )
    )


def chi_square(tokens, expected):
    counts = np.bincount(np.asarray(tokens) @ np.array([9, 3, 1]), minlength=27)
    expected = expected.ravel() * len(tokens)
    return np.sum((counts - expected) ** 2 / np.maximum(expected, 1e-9) * (expected > 0))


def test_random_order_samples_the_models_distribution():
    canvas = jnp.full((20_000, 3), MASK)
    run = jax.jit(lambda key: masked.fill(tabular, canvas, canvas == MASK, key, temperature=1.0, order="random"))
    assert chi_square(run(jax.random.key(0)), JOINT) < 54.1  # the 99.9% point at 26 degrees of freedom


def test_tokens_that_are_set_condition_the_others_and_stay():
    canvas = jnp.tile(jnp.array([[MASK, 1, MASK]]), (20_000, 1))
    tokens = masked.fill(tabular, canvas, canvas == MASK, jax.random.key(1), temperature=1.0, order="random")
    conditional = np.zeros_like(JOINT)
    conditional[:, 1] = JOINT[:, 1] / JOINT[:, 1].sum()
    assert chi_square(tokens, conditional) < 26.1  # 99.9%, 8 degrees of freedom


def ordered(confidence):
    """Predicts, everywhere, how many tokens are set, with a confidence that depends on the position."""

    def predict(tokens):
        top = jax.nn.one_hot((tokens != 9).sum(-1), 9)[:, None]
        other = (1 - jnp.asarray(confidence)) / 8
        return jnp.log(jnp.where(top > 0, jnp.asarray(confidence)[None, :, None], other[None, :, None]))

    return predict


def test_confidence_order_reveals_the_most_confident_first_whatever_the_temperature():
    confidence = [0.9, 0.99, 0.8, 0.95]
    canvas = jnp.full((2, 4), 9)
    for temperature in (0.0, 1e-3):  # tempered, all confidences would be 1
        tokens = masked.fill(ordered(confidence), canvas, canvas == 9, jax.random.key(0), temperature=temperature)
        np.testing.assert_array_equal(tokens, [[2, 0, 3, 1]] * 2)


def test_captions_of_different_length_end_in_one_loop():
    canvas = jnp.array([[9, 9, 9, 9], [9, 7, 9, 7], [7, 7, 7, 7]])
    tokens = masked.fill(ordered([0.9] * 4), canvas, canvas == 9, jax.random.key(0), temperature=0.0)
    np.testing.assert_array_equal(tokens, [[0, 1, 2, 3], [2, 7, 3, 7], [7, 7, 7, 7]])


def test_unknown_order():
    with pytest.raises(ValueError, match='order "left": choose one of confidence, random'):
        masked.fill(tabular, jnp.full((1, 3), MASK), jnp.ones((1, 3), bool), jax.random.key(0), order="left")


@pytest.mark.slow
def test_rare_tokens_are_drawn_as_often_as_they_should_be():
    """32,000 tokens of 3e-8 each, 1e-3 together: JAX's default Gumbel noise draws them 13 times too rarely."""
    rest, rows, vocabulary = 1e-3, 400, 32_000
    logits = jnp.log(jnp.full((rows, vocabulary + 1), rest / vocabulary).at[:, -1].set(1 - rest))
    keys = jax.random.split(jax.random.key(0), 8)
    draw = jax.jit(lambda key: (masked.choose(logits, key, 1.0) < vocabulary).sum())
    assert 1 <= sum(int(draw(key)) for key in keys) <= 10  # 3.2 expected, .25 by default


def test_cut():
    tokens = jnp.array([[5, 1, 7, 1], [5, 6, 7, 8], [1, 1, 0, 9], [0, 5, 6, 1]])
    np.testing.assert_array_equal(
        masked.cut(tokens, eos_id=1, pad_id=0), [[5, 1, 0, 0], [5, 6, 7, 1], [1, 0, 0, 0], [0, 5, 6, 1]]
    )
