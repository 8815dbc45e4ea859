import itertools

import jax
import jax.numpy as jnp
import numpy as np

from mdc_jax.scoring import elbo
from tests.decoding.test_masked import JOINT, MASK, tabular

TEXT = np.array([2, 0, 1])


def nll(masked):
    """-log p of the masked ones of TEXT given the others, bool[B, C, 3] → f32[B, C, 3]."""
    text = jnp.broadcast_to(jnp.asarray(TEXT)[None, None], masked.shape).reshape(-1, 3)
    logp = jax.nn.log_softmax(tabular(jnp.where(masked.reshape(-1, 3), MASK, text)))
    taken = jnp.take_along_axis(logp, text[..., None], axis=-1)[..., 0]
    return jnp.where(masked, -taken.reshape(masked.shape), 0.0)


def enumerated(words, loss):
    """The bound of the first `words` tokens by definition: over all sets of masked tokens."""
    total = 0.0
    for size in range(1, words + 1):
        sets = list(itertools.combinations(range(words), size))
        for chosen in sets:
            masked = np.zeros((1, 1, 3), bool)
            masked[0, 0, list(chosen)] = True
            total += float(loss(jnp.asarray(masked)).sum()) / size / len(sets)
    return -total


def warped(masked):
    """Predictions that fit no joint distribution: the bound is then not tight."""
    return nll(masked) * (1 + masked.sum(-1, keepdims=True))


def test_agrees_with_enumeration_and_the_standard_error_with_the_spread():
    maskable = jnp.tile(jnp.array([[[True, True, True], [True, True, False]]]), (2000, 1, 1))
    estimate = jax.jit(lambda key: elbo.elbo(warped, maskable, key, replicates=8, samples=2))
    value, error = map(np.asarray, estimate(jax.random.key(0)))
    for caption, words in enumerate((3, 2)):
        expected = enumerated(words, warped)
        spread = value[:, caption].std()
        assert abs(value[:, caption].mean() - expected) < 4 * spread / 2000**0.5
        assert 0.9 < np.sqrt(np.mean(error[:, caption] ** 2)) / spread < 1.1


def test_is_tight_for_exact_conditionals():
    np.testing.assert_allclose(enumerated(3, nll), np.log(JOINT[tuple(TEXT)]), rtol=1e-5)


def test_captions_of_an_image_share_their_random_numbers():
    maskable = jnp.ones((50, 2, 3), bool)
    value, error = elbo.elbo(warped, maskable, jax.random.key(1))
    np.testing.assert_allclose(value[:, 0], value[:, 1], rtol=1e-5)
    assert len(np.unique(np.asarray(value[:, 0]).round(4))) > 25  # those of different images do not
    assert (error > 0).all()


def test_nothing_to_score_scores_0():
    value, error = elbo.elbo(warped, jnp.zeros((1, 1, 3), bool), jax.random.key(0))
    assert float(value[0, 0]) == float(error[0, 0]) == 0.0
