import jax
import jax.numpy as jnp
import numpy as np

from mdc_jax.decoding import autoregressive

PAD, EOS = 0, 1
# First token, then the next one given the last: over PAD, EOS, two words.
FIRST = np.array([0.3, 0.0, 0.42, 0.28])
NEXT = np.array([[1, 0, 0, 0], [1, 0, 0, 0], [0.5, 0.2, 0.2, 0.1], [0.5, 0.1, 0.05, 0.35]])


def predict(tokens, position):
    before = tokens[:, jnp.maximum(position - 1, 0)]
    return jnp.log(
        jnp.where(position == 0, jnp.asarray(FIRST, jnp.float32)[None], jnp.asarray(NEXT, jnp.float32)[before])
    )


def decode(batch, temperature):
    run = jax.jit(
        lambda key: autoregressive.decode(predict, batch, 3, key, eos_id=EOS, pad_id=PAD, temperature=temperature)
    )
    return np.asarray(run(jax.random.key(0)))


def test_greedy_takes_the_likeliest_word_and_ends_at_the_last_place():
    np.testing.assert_array_equal(decode(2, 0.0), [[2, 1, 0]] * 2)


def test_samples_have_the_models_distribution_without_pads():
    first, following = FIRST[2:] / FIRST[2:].sum(), NEXT[2:, 1:] / NEXT[2:, 1:].sum(1, keepdims=True)
    expected = {(w + 2, 1, 0): first[w] * following[w, 0] for w in (0, 1)}
    expected |= {(w + 2, v + 2, 1): first[w] * following[w, v + 1] for w in (0, 1) for v in (0, 1)}
    tokens = decode(20_000, 1.0)
    captions, counts = np.unique(tokens, axis=0, return_counts=True)
    assert {tuple(caption) for caption in captions.tolist()} == set(expected)
    share = np.array([expected[tuple(caption)] for caption in captions.tolist()])
    chi_square = np.sum((counts - 20_000 * share) ** 2 / (20_000 * share))
    assert chi_square < 20.5  # 99.9%, 5 degrees of freedom
