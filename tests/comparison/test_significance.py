import math

import numpy as np
import pytest
import scipy.stats

from mdc_jax.comparison import significance
from mdc_jax.comparison.significance import Difference

FIRST = {0: 0.91, 1: 0.93, 2: 0.90, 3: 0.95}
OTHER = {3: 0.90, 2: 0.89, 1: 0.90, 0: 0.89, 7: 0.1}


def test_paired_differences_are_those_of_the_paired_t_test():
    found = significance.paired(FIRST, OTHER)
    pairs = [(FIRST[seed], OTHER[seed]) for seed in FIRST]
    expected = scipy.stats.ttest_rel(*zip(*pairs, strict=True))
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)), rel=1e-9)
    assert found.mean == pytest.approx(0.0275) and found.seeds == 4


def test_one_seed_decides_nothing():
    found = significance.paired({0: 1.0}, {0: 0.0})
    assert found == Difference(1.0, -math.inf, math.inf, 1.0, 1)
    assert significance.verdict(found) == significance.UNDECIDED
    with pytest.raises(ValueError, match=r"no seed is in both \[0\] and \[1\]"):
        significance.paired({0: 1.0}, {1: 0.0})


@pytest.mark.parametrize(("difference", "says"), [(0.0, significance.AS_GOOD), (-0.3, significance.UNDECIDED)])
def test_seeds_that_differ_by_exactly_as_much_are_no_evidence(difference, says):
    found = significance.paired({seed: 1.0 + difference for seed in range(3)}, dict.fromkeys(range(3), 1.0))
    assert found.p == 1 and significance.verdict(found) == says


def test_seeds_that_differ_by_as_much_up_to_the_digits_of_a_table_are_no_evidence():
    for first, other in (
        ((0.666667, 1.0, 0.333333), (0.333333, 0.666667, 0.0)),
        ((1.33333, 2.33333, 1.66667), (1.0, 2.0, 1.33333)),
    ):
        found = significance.paired(dict(enumerate(first)), dict(enumerate(other)))
        assert found.p == 1 and found.mean == pytest.approx(1 / 3, abs=1e-5)
    small = significance.paired({0: 1e-4, 1: 2e-4}, {0: 9.97e-5, 1: 1.991e-4})
    assert small.p < 1


def test_holm_multiplies_the_smallest_by_all_and_never_falls():
    # By hand: .01 x 4 = .04; .02 x 3 = .06; .03 x 2 = .06; .9
    assert significance.holm([0.9, 0.01, 0.03, 0.02]) == pytest.approx([0.9, 0.04, 0.06, 0.06])
    assert significance.holm([0.5, 0.6]) == [1.0, 1.0]
    assert significance.holm([]) == []


def test_the_clearest_of_many_claims_of_few_seeds_has_to_be_very_clear():
    error = significance.clearest(claims=33, seeds=3)
    assert error > 25
    p = 2 * scipy.stats.t.sf(error, 2)
    assert significance.holm([p, *[0.9] * 32])[0] == pytest.approx(significance.LEVEL)


@pytest.mark.parametrize(
    ("difference", "adjusted", "says"),
    [
        (Difference(0.02, 0.01, 0.03, 0.01, 5), 0.02, significance.BETTER),
        (Difference(0.02, 0.01, 0.03, 0.01, 5), 0.06, significance.AS_GOOD),
        (Difference(-0.02, -0.03, -0.01, 0.01, 5), 0.02, significance.WORSE),
        (Difference(-0.004, -0.005, -0.003, 0.001, 5), None, significance.WORSE),
        (Difference(0.001, -0.009, 0.011, 0.8, 5), None, significance.AS_GOOD),
        (Difference(0.001, -0.011, 0.013, 0.8, 5), None, significance.UNDECIDED),
    ],
)
def test_what_may_be_said_of_a_difference(difference, adjusted, says):
    assert significance.verdict(difference, adjusted) == says


def test_the_bootstrap_over_examples_of_one_seed_is_that_of_a_mean():
    values = np.random.default_rng(1).integers(0, 2, (1, 400)).astype(float)
    mean, low, high = significance.bootstrap(values)
    error = values.std() / np.sqrt(400)
    assert mean == values.mean()
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.05)


def test_the_bootstrap_is_of_these_seeds_and_says_nothing_of_others():
    """Examples agree within each seed, so that the mean of these seeds is known, and the paired test is for others."""
    values = np.repeat([[0.0], [1.0], [2.0]], 500, axis=1)
    assert significance.bootstrap(values) == (1, 1, 1)
    apart = np.stack([np.arange(500) % 2, 1 - np.arange(500) % 2])  # what one seed gets wrong the other gets right
    assert significance.bootstrap(apart) == (0.5, 0.5, 0.5)
    same = np.tile(np.arange(500) % 2, (3, 1)).astype(float)  # a seed more is no example more
    assert np.ptp(significance.bootstrap(same)[1:]) == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(500), rel=0.06)
