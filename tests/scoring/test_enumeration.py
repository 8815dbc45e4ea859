import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdc_jax.scoring import enumeration, greedy_reveal
from tests.scoring.tabular import JOINT, TEXTS, enumerated, nll_of, predict_of, warped

ALL = jnp.asarray(TEXTS)[None]  # i32[1, 27, 3]
EVERYTHING = jnp.ones((1, 27, 3), bool)


def conditional(text, given):
    """p(token at each place | text at the places `given`), f64[3 places, 3 tokens], summed from JOINT."""
    table = JOINT.copy()
    for place in given:
        table = table * (np.arange(3) == text[place]).reshape([3 if axis == place else 1 for axis in range(3)])
    table = table / table.sum()
    return np.stack([table.sum(tuple(axis for axis in range(3) if axis != place)) for place in range(3)])


def test_exhaustive_is_the_sum_over_all_masks():
    maskable = jnp.array([[[True, True, True], [True, True, False], [False] * 3]])
    score = jax.jit(lambda: enumeration.exhaustive(warped, maskable))()
    assert score.kind == "bound" and not score.standard_error.any()
    expected = [enumerated(3, warped), enumerated(2, warped), 0]
    np.testing.assert_allclose(score.value[0], expected, rtol=1e-4)


def test_exhaustive_of_exact_conditionals_is_the_log_likelihood():
    score = enumeration.exhaustive(nll_of(ALL), EVERYTHING)
    np.testing.assert_allclose(score.value[0], np.log(JOINT.ravel()), rtol=1e-4)


def test_exhaustive_refuses_long_captions():
    with pytest.raises(ValueError, match=r"most=11: 2,047 masks are too many; at most 10, or estimate: `elbo`"):
        enumeration.exhaustive(warped, EVERYTHING, most=11)
    maskable = jnp.array([[[True, True, True], [True, True, False]]])
    value = enumeration.exhaustive(warped, maskable, most=2).value[0]
    assert np.isnan(value[0]) and np.isfinite(value[1])


def test_one_pass_takes_every_token_from_nothing():
    score = enumeration.one_pass(nll_of(ALL), EVERYTHING)
    marginals = conditional(TEXTS[0], ())
    expected = [sum(np.log(marginals[place, token]) for place, token in enumerate(text)) for text in TEXTS]
    np.testing.assert_allclose(score.value[0], expected, rtol=1e-4)
    assert score.kind == "heuristic"


def test_pseudo_log_likelihood_takes_every_token_from_all_others():
    score = jax.jit(lambda: enumeration.pseudo_log_likelihood(nll_of(ALL), EVERYTHING))()
    others = [[place for place in range(3) if place != own] for own in range(3)]
    expected = [sum(np.log(conditional(text, others[i])[i, text[i]]) for i in range(3)) for text in TEXTS]
    np.testing.assert_allclose(score.value[0], expected, rtol=1e-3, atol=1e-4)
    assert score.kind == "heuristic"


def uneven(masked):
    """Conditionals of all texts that fit no joint distribution: some sharper, some flatter, by what is hidden.

    As for a real model, the order in which tokens are revealed then matters.
    """
    text = jnp.asarray(TEXTS).reshape(1, 27, 3)
    every = jnp.stack([predict_of(text.at[..., place].set(t))(masked)[0][..., place] for place, t in PLACES])
    logp = -every.reshape(3, 3, *masked.shape[:2])  # place, token
    hidden = jnp.where(masked, jnp.array([1, 2, 4])[None, None], 0).sum(-1)
    logp = jax.nn.log_softmax(logp * (0.4 + 0.3 * hidden[None, None]), axis=1)
    own = jnp.stack([jnp.take_along_axis(logp[i], text[None, ..., i], axis=0)[0] for i in range(3)], axis=-1)
    return tuple(jnp.where(masked, -x, 0.0) for x in (own, jnp.moveaxis(logp.max(1), 0, -1)))


PLACES = list(itertools.product(range(3), range(3)))


def by_hand(row, predict):
    """The surest position first, one text at a time."""
    masked, total = np.ones((1, 27, 3), bool), 0.0
    for _ in range(3):
        nll, surest = (np.asarray(x)[0, row] for x in predict(jnp.asarray(masked)))
        place = min((p for p in range(3) if masked[0, row, p]), key=lambda p: surest[p])
        total -= nll[place]
        masked[0, row, place] = False
    return total


@pytest.mark.parametrize("predict", [predict_of(ALL), uneven], ids=["joint", "uneven"])
def test_greedy_reveal_is_a_distribution_over_texts(predict):
    """Its order does not look at hidden tokens, or probabilities would not add up to 1."""
    score = jax.jit(lambda: greedy_reveal.greedy_reveal(predict, EVERYTHING))()
    assert score.kind == "exact"
    np.testing.assert_allclose(np.exp(np.asarray(score.value, np.float64)).sum(), 1, rtol=1e-4)
    np.testing.assert_allclose(score.value[0, ::5], [by_hand(row, predict) for row in range(0, 27, 5)], rtol=1e-4)


def test_greedy_reveal_of_exact_conditionals_is_the_log_likelihood_and_of_others_depends_on_the_order():
    score = greedy_reveal.greedy_reveal(predict_of(ALL), EVERYTHING)
    np.testing.assert_allclose(score.value[0], np.log(JOINT.ravel()), rtol=1e-4)
    found = greedy_reveal.greedy_reveal(uneven, EVERYTHING).value
    bound = enumeration.exhaustive(lambda masked: uneven(masked)[0], EVERYTHING).value
    assert np.abs(found - bound).max() > 0.1


def test_greedy_reveal_of_shorter_captions_and_of_none():
    maskable = jnp.array([[[False] * 3, [True, False, False]]])
    texts = jnp.asarray(TEXTS[:2])[None]
    value = greedy_reveal.greedy_reveal(predict_of(texts), maskable).value[0]
    np.testing.assert_allclose(value, [0, np.log(conditional(TEXTS[1], (1, 2))[0, TEXTS[1, 0]])], rtol=1e-4, atol=1e-5)
