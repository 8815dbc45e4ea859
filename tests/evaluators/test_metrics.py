import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, recall_score, roc_auc_score

from mdc_jax.evaluators import metrics

N, K = 80, 3


@pytest.mark.parametrize("digits", [1, 7])  # with and without ties
def test_macro_auc_agrees_with_scikit_learn_on_every_resample(digits):
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((N, K)).round(digits)
    labels = (scores + rng.standard_normal((N, K)) > 0.5).astype(np.uint8)
    weights = metrics.resamples(N, 5)
    found = metrics.macro_auc(scores, labels, weights)
    for r in range(5):
        rows = np.repeat(np.arange(N), weights[:, r].astype(int))
        assert found[r] == pytest.approx(roc_auc_score(labels[rows], scores[rows], average="macro"))


def test_balanced_accuracy_agrees_with_scikit_learn():
    rng = np.random.default_rng(1)
    labels = (rng.random((N, K)) < 0.3).astype(np.uint8)
    predicted = labels ^ (rng.random((N, K)) < 0.2)
    expected = np.mean([balanced_accuracy_score(labels[:, k], predicted[:, k]) for k in range(K)])
    assert metrics.balanced_accuracy(predicted, labels, np.ones((N, 1), np.float32))[0] == pytest.approx(expected)


def test_a_name_without_positives_in_a_resample_is_left_out_of_it():
    labels = np.array([[1, 1], [0, 0], [0, 1]], np.uint8)
    scores = np.array([[2.0, 2.0], [1.0, 1.0], [3.0, 3.0]])
    weights = np.array([[1, 0], [1, 1], [1, 2]], np.float32)  # the second resample lacks the first name's positive
    np.testing.assert_allclose(metrics.macro_auc(scores, labels, weights), [(0.5 + 1) / 2, 1.0])
    np.testing.assert_allclose(metrics.balanced_accuracy(scores > 1.5, labels, weights), [(0.75 + 1) / 2, 1.0])


def test_bootstrap_interval_of_accuracy_is_as_wide_as_the_binomial():
    labels = np.zeros(400, int)
    predicted = (np.arange(400) < 100).astype(int)
    resampled = metrics.accuracy(predicted, labels, metrics.resamples(400, 2000))
    assert resampled.mean() == pytest.approx(0.75, abs=0.003)
    assert resampled.std() == pytest.approx(np.sqrt(0.75 * 0.25 / 400), rel=0.1)


def test_the_mean_of_groups_is_that_of_a_loop_and_leaves_out_groups_without_weight():
    rng = np.random.default_rng(0)
    values, groups = rng.random(40), rng.choice(["a", "b", "c"], 40)
    weights = rng.integers(0, 3, (40, 5)).astype(np.float32)
    weights[groups == "b", 2] = 0
    expected = []
    for weight in weights.T:
        inside = [(groups == name) & (weight > 0) for name in "abc"]
        expected.append(np.mean([np.average(values[rows], weights=weight[rows]) for rows in inside if rows.any()]))
    np.testing.assert_allclose(metrics.mean_of_groups(values, groups, weights), expected, rtol=1e-6)


def test_mean_per_class_agrees_with_scikit_learn_and_leaves_out_classes_that_a_resample_lacks():
    rng = np.random.default_rng(2)
    labels = np.concatenate([[7], rng.choice([0, 1, 3], N - 1, p=[0.8, 0.15, 0.05])])
    predicted = np.where(rng.random(N) < 0.6, labels, rng.choice([0, 1, 3, 4], N))
    weights = metrics.resamples(N, 20)
    found = metrics.mean_per_class(predicted, labels, weights)
    for r in range(20):
        rows = np.repeat(np.arange(N), weights[:, r].astype(int))
        there = np.unique(labels[rows])
        assert found[r] == pytest.approx(recall_score(labels[rows], predicted[rows], labels=there, average="macro"))
    assert (weights[0] == 0).any()
