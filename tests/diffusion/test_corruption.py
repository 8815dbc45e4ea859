import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdc_jax.diffusion import corruption, schedules

DRAWS = 40_000


@pytest.mark.parametrize("batch", [1, 8, 49, 98, 103])
@pytest.mark.parametrize("draws", [1, 3])
def test_times_have_one_in_every_stratum_and_those_of_an_example_span_the_interval(batch, draws):
    times = np.asarray(corruption.low_discrepancy_times(jax.random.key(batch), batch, draws))
    assert times.shape == (batch, draws)
    assert times.min() >= 0
    assert times.max() < 1
    total = batch * draws
    gaps = np.diff(np.sort(times.ravel()), append=np.sort(times.ravel())[0] + 1)
    np.testing.assert_allclose(gaps, 1 / total, atol=1e-6)
    gaps = np.diff(np.sort(times, axis=1), axis=1)
    np.testing.assert_allclose(gaps, 1 / draws, atol=1e-6)


@pytest.mark.parametrize(
    ("masks", "schedule", "interval"),
    [
        *itertools.product(["bernoulli", "size_biased"], ["linear", "sine"], [(0.0, 1.0), (0.5, 1.0), (0.3, 0.3)]),
        *itertools.product(["stratified"], ["linear", "sine"], [(0.0, 1.0)]),
    ],
)
def test_probability_times_weight_of_every_mask_is_that_of_the_elbo(masks, schedule, interval):
    """E[weight 1(mask = S)] = mean over the interval of r^(l-1) (1-r)^(n-l), for every set S of l of n tokens."""
    n = 4
    maskable = jnp.array([True, True, False, True, True])  # the place of a pad does not matter
    key, time_key = jax.random.split(jax.random.key(len(masks + schedule)))
    u = jax.random.uniform(time_key, (DRAWS,))
    ratio, slope = schedules.ratio_and_slope(schedule, interval, u)
    masked, weight = jax.jit(corruption.MASKS[masks])(key, jnp.broadcast_to(maskable, (DRAWS, 5)), ratio)
    weight = np.asarray(slope * weight)
    assert not masked[:, 2].any()
    code = np.asarray(masked)[:, np.asarray(maskable)] @ (1 << np.arange(n))
    low, high = interval
    r = low + (high - low) * (np.arange(10_000) + 0.5) / 10_000
    for chosen in itertools.product([0, 1], repeat=n):
        size = sum(chosen)
        if size == 0:
            continue
        expected = np.mean(r ** (size - 1) * (1 - r) ** (n - size))
        value = np.where(code == np.dot(chosen, 1 << np.arange(n)), weight, 0)
        error = value.std() / DRAWS**0.5
        assert abs(value.mean() - expected) < 4.5 * error + 1e-6, chosen


@pytest.mark.parametrize("masks", corruption.MASKS)
def test_words_are_masked_whole_and_weighted_as_tokens_of_their_own_are(masks):
    """E[weight 1(mask = S)] over sets S of n = 3 words of 2, 1 and 3 tokens is what it is of n tokens."""
    words, n = np.array([0, 0, 1, 2, 2, 2]), 3
    starts = jnp.array([False, False, True, True, False, False, False])  # the first token starts a word all the same
    maskable = jnp.broadcast_to(jnp.arange(7) < 6, (DRAWS, 7))
    key, time_key = jax.random.split(jax.random.key(len(masks)))
    ratio = jax.random.uniform(time_key, (DRAWS,))
    draw = corruption.whole_words(corruption.MASKS[masks], jnp.broadcast_to(starts, (DRAWS, 7)))
    masked, weight = map(np.asarray, jax.jit(draw)(key, maskable, ratio))
    assert not masked[:, 6].any()
    of_words = masked[:, [0, 2, 3]]
    np.testing.assert_array_equal(masked[:, :6], of_words[:, words])
    if masks == "bernoulli":  # the share that is masked is expected to be the ratio, as without words
        assert abs((masked[:, :6].mean(1) - np.asarray(ratio)).mean()) < 4.5 * 0.5 / DRAWS**0.5
    r = (np.arange(10_000) + 0.5) / 10_000
    for chosen in itertools.product([0, 1], repeat=n):
        size = sum(chosen)
        if size:
            expected = np.mean(r ** (size - 1) * (1 - r) ** (n - size))
            value = np.where((of_words == np.array(chosen, bool)).all(1), weight, 0)
            assert abs(value.mean() - expected) < 4.5 * value.std() / DRAWS**0.5 + 1e-6, chosen


@pytest.mark.parametrize("masks", ["size_biased", "stratified"])
def test_no_mask_is_empty_and_no_weight_above_the_number_of_tokens(masks):
    maskable = jnp.arange(6)[None] < jnp.arange(1, 7)[:, None].repeat(50, 0)
    ratio = jnp.full(300, 1e-4)
    masked, weight = corruption.MASKS[masks](jax.random.key(0), maskable, ratio)
    assert masked.any(-1).all()
    assert not (masked & ~maskable).any()
    np.testing.assert_allclose(weight * masked.sum(-1), maskable.sum(-1))


@pytest.mark.parametrize("masks", corruption.MASKS)
def test_an_empty_caption_has_no_mask_and_a_finite_weight(masks):
    masked, weight = corruption.MASKS[masks](jax.random.key(0), jnp.zeros((3, 4), bool), jnp.array([0.0, 0.5, 1.0]))
    assert not masked.any()
    assert jnp.isfinite(weight).all()


def test_all_is_masked_at_ratio_1():
    maskable = jnp.ones((1000, 7), bool)
    for masks in corruption.MASKS.values():
        assert masks(jax.random.key(0), maskable, jnp.ones(1000))[0].all()


def test_stratified_counts_follow_the_time():
    masked, _ = corruption.stratified(jax.random.key(0), jnp.ones((8, 4), bool), jnp.arange(8) / 8)
    np.testing.assert_array_equal(masked.sum(-1), [1, 1, 2, 2, 3, 3, 4, 4])


def test_padding_policies():
    real = jnp.array([[True, True, False], [False, False, False]])
    for padding in ("hidden", "known"):
        np.testing.assert_array_equal(corruption.maskable_tokens(real, padding), real)
    np.testing.assert_array_equal(corruption.maskable_tokens(real, "target"), [[True] * 3, [False] * 3])
    with pytest.raises(ValueError, match='padding "pad": choose one of hidden, target, known'):
        corruption.maskable_tokens(real, "pad")
