import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdc_jax.scoring import alignment, elbo, enumeration
from tests.scoring.tabular import JOINT, TEXT, enumerated, nll_of, warped

IMAGES = 2000
INTERVALS = [(0.0, 1.0), (0.5, 1.0), (0.2, 0.6), (0.3, 0.3), (1.0, 1.0)]


@pytest.fixture(scope="module", params=INTERVALS, ids=str)
def estimated(request):
    """An interval, and the scores of captions of three and of two tokens for 2,000 images that are all the same."""
    interval = request.param
    maskable = jnp.tile(jnp.array([[[True, True, True], [True, True, False]]]), (IMAGES, 1, 1))

    def estimate(key):
        return elbo.training_interval(warped, maskable, key, interval=interval, replicates=8, samples=2)

    return interval, jax.device_get(jax.jit(estimate)(jax.random.key(0)))


def test_agrees_with_enumeration_over_all_masks(estimated):
    interval, score = estimated
    assert score.kind == "heuristic"
    np.testing.assert_allclose(score.replicates.mean(0), score.value, rtol=1e-5)
    for caption, words in enumerate((3, 2)):
        error = score.value[:, caption].std() / IMAGES**0.5
        expected = enumerated(words, warped, interval)
        assert abs(score.value[:, caption].mean() - expected) < 4 * error + 1e-5 * abs(expected)


def test_the_standard_error_is_that_of_the_mean(estimated):
    interval, score = estimated
    if interval == (1.0, 1.0):
        np.testing.assert_allclose(score.standard_error, 0, atol=1e-5)  # one mask: nothing varies
        return
    for caption in range(2):
        spread = score.value[:, caption].std()
        assert 0.9 < np.sqrt(np.mean(score.standard_error[:, caption] ** 2)) / spread < 1.1


def test_intervals_cover_as_they_claim():
    """95% of Student's t with 7 degrees of freedom, of a caption of 8 words and of its difference to another one."""
    maskable = jnp.ones((IMAGES, 2, 8), bool)
    loss = lambda masked: additive(masked) * jnp.array([1.0, 1.5])[None, :, None]  # noqa: E731
    score = jax.jit(lambda key: elbo.elbo(loss, maskable, key))(jax.random.key(3))
    truth = np.asarray(enumeration.exhaustive(loss, maskable[:1]).value)[0]
    difference, error = score.difference(0, 1)
    for off, claimed in (
        (score.value[:, 0] - truth[0], score.standard_error[:, 0]),
        (difference - (truth[0] - truth[1]), error),
    ):
        covered = np.mean(np.abs(np.asarray(off)) < 2.365 * np.asarray(claimed))
        assert abs(covered - 0.95) < 4 * np.sqrt(0.95 * 0.05 / IMAGES)


def test_the_elbo_is_the_whole_interval_and_a_bound():
    maskable = jnp.ones((3, 1, 3), bool)
    whole = elbo.training_interval(warped, maskable, jax.random.key(2), interval=(0.0, 1.0))
    bound = elbo.elbo(warped, maskable, jax.random.key(2))
    np.testing.assert_array_equal(bound.value, whole.value)
    assert bound.kind == "bound"


def test_is_tight_for_exact_conditionals():
    np.testing.assert_allclose(enumerated(3, nll_of(TEXT[None, None])), np.log(JOINT[tuple(TEXT)]), rtol=1e-4)


def test_captions_of_an_image_share_their_random_numbers_and_those_of_different_images_do_not():
    score = elbo.elbo(warped, jnp.ones((50, 2, 3), bool), jax.random.key(1))
    np.testing.assert_allclose(score.value[:, 0], score.value[:, 1], rtol=1e-5)
    assert len(np.unique(np.asarray(score.value[:, 0]).round(4))) > 25
    assert (score.standard_error > 0).all()


def test_the_masks_of_an_image_do_not_depend_on_how_many_there_are():
    many, few = (elbo.elbo(warped, jnp.ones((images, 2, 3), bool), jax.random.key(1)) for images in (9, 4))
    np.testing.assert_allclose(many.replicates[:, :4], few.replicates, rtol=1e-5)


def test_nothing_to_score_scores_0():
    score = elbo.elbo(warped, jnp.zeros((1, 1, 3), bool), jax.random.key(0))
    assert float(score.value[0, 0]) == float(score.standard_error[0, 0]) == 0.0


def additive(masked):
    """The loss of a token grows with what is hidden beside it."""
    hidden = jnp.pad(masked, ((0, 0), (0, 0), (1, 1)), constant_values=False).astype(jnp.float32)
    return masked * (1 + 3 * hidden[..., :-2] + 2 * hidden[..., 2:])


@pytest.mark.parametrize("longer", [False, True])
def test_shared_random_numbers_reduce_the_variance_of_a_difference(longer):
    """Two captions of 12 words, or of 12 and 13, with a common beginning and a common end; words are easy or hard."""
    images, size = 400, 14
    length = jnp.array([[12, 13 if longer else 12]])
    tokens = np.zeros((1, 2, size), np.int32)
    tokens[0, 0, :12] = np.arange(1, 13)
    tokens[0, 1, : length[0, 1]] = [*range(1, 5), *((14, 15) if longer else (14,)), *range(6, 13)]
    hard = jnp.asarray(np.random.default_rng(0).gamma(0.5, 2, 16)[tokens], jnp.float32)
    maskable = jnp.tile(jnp.arange(size)[None, None] < length[..., None], (images, 1, 1))

    def run(positions):
        score = jax.jit(
            lambda key: elbo.elbo(lambda masked: hard * additive(masked), maskable, key, positions=positions)
        )
        return score(jax.random.key(0))

    score = run(jnp.tile(alignment.aligned_positions(tokens, length), (images, 1, 1)))
    difference, error = map(np.asarray, score.difference(0, 1))
    variance = np.mean(error**2)
    assert 0.85 < np.sqrt(variance) / difference.std() < 1.15
    independent = np.mean(np.sum(np.asarray(score.standard_error) ** 2, axis=1))
    assert variance < 0.25 * independent
    if longer:  # aligned from the left alone, the common end has other numbers
        _, error = run(None).difference(0, 1)
        assert variance < 0.7 * np.mean(np.asarray(error) ** 2)
