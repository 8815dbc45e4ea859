"""Metrics of a probe, with bootstrap intervals over the test examples.

Every metric takes weights f32[N, R]: R resamples of the N examples, each a column that says how
often an example was drawn. Ones give the metric itself.

Shapes: N examples, R resamples, K names or classes.
"""

import functools

import numpy as np


def resamples(n: int, count: int = 1000) -> np.ndarray:
    """Weights f32[n, count] of `count` bootstrap resamples of n examples."""
    rng = np.random.default_rng((0, n))
    return rng.multinomial(n, np.full(n, 1 / n), size=count).T.astype(np.float32)


@functools.lru_cache(maxsize=2)  # hundreds of numbers are of the same examples
def once_and_resampled(n: int, count: int = 1000) -> np.ndarray:
    """Weights f32[n, 1 + count], to be read alone: every example once, for the value itself, then `resamples`."""
    weights = np.concatenate([np.ones((n, 1), np.float32), resamples(n, count)], axis=1)
    weights.flags.writeable = False
    return weights


def interval(resampled_R: np.ndarray) -> tuple[float, float]:
    """The 95% percentile interval of a resampled value, without the resamples in which it is not defined (nan)."""
    low, high = np.nanpercentile(resampled_R, [2.5, 97.5])
    return float(low), float(high)


def macro_auc(scores_NxK: np.ndarray, labels_NxK: np.ndarray, weights_NxR: np.ndarray) -> np.ndarray:
    """Mean over names of the area under the ROC curve, f64[R]; ties count one half.

    A resample leaves out the names of which it has no positive or no negative example.
    """
    areas_KxR = [_auc(scores_NxK[:, k], labels_NxK[:, k] > 0, weights_NxR) for k in range(scores_NxK.shape[1])]
    return _mean_of_names(np.stack(areas_KxR))


def balanced_accuracy(predicted_NxK: np.ndarray, labels_NxK: np.ndarray, weights_NxR: np.ndarray) -> np.ndarray:
    """Mean over names of (sensitivity + specificity) / 2, f64[R]; names left out as in `macro_auc`."""
    labels, correct = labels_NxK > 0, (predicted_NxK > 0) == (labels_NxK > 0)
    with np.errstate(invalid="ignore"):  # 0/0 where a resample lacks the class: nan, left out
        sensitivity_KxR = _counts(labels & correct, weights_NxR) / _counts(labels, weights_NxR)
        specificity_KxR = _counts(~labels & correct, weights_NxR) / _counts(~labels, weights_NxR)
    return _mean_of_names((sensitivity_KxR + specificity_KxR) / 2)


def mean_of_groups(values_N: np.ndarray, groups_N: np.ndarray, weights_NxR: np.ndarray) -> np.ndarray:
    """Mean over groups of the mean of `values` within each, f64[R]: with classes and right or wrong, mean per class.

    A resample leaves out the groups of which it has no example.
    """
    order_N = np.argsort(groups_N, kind="stable")
    _, first_G = np.unique(groups_N[order_N], return_index=True)
    weights_NxR = weights_NxR[order_N]
    values_NxR = weights_NxR * values_N[order_N, None].astype(np.float32)
    with np.errstate(invalid="ignore"):  # 0/0 where a resample lacks the group: nan, left out
        means_GxR = np.add.reduceat(values_NxR, first_G) / np.add.reduceat(weights_NxR, first_G)
    return _mean_of_names(means_GxR.astype(np.float64))


def accuracy(predicted_N: np.ndarray, labels_N: np.ndarray, weights_NxR: np.ndarray) -> np.ndarray:
    """Share of right predictions, f64[R]."""
    return _counts((predicted_N == labels_N)[:, None], weights_NxR)[0] / weights_NxR.sum(0, dtype=np.float64)


def mean_per_class(predicted_N: np.ndarray, labels_N: np.ndarray, weights_NxR: np.ndarray) -> np.ndarray:
    """Mean over classes of the share of right predictions of their examples, f64[R].

    A class of which there is no example is left out, also where a resample lacks it.
    """
    return mean_of_groups(predicted_N == labels_N, labels_N, weights_NxR)


def _auc(scores_N: np.ndarray, positive_N: np.ndarray, weights_NxR: np.ndarray) -> np.ndarray:
    _, group_N, sizes = np.unique(scores_N, return_inverse=True, return_counts=True)
    order_N = np.argsort(group_N, kind="stable")
    below_NxR = np.zeros((len(order_N) + 1, weights_NxR.shape[1]), np.float32)  # negatives among the lowest scores
    np.multiply(weights_NxR[order_N], ~positive_N[order_N, None], out=below_NxR[1:])
    np.cumsum(below_NxR, axis=0, out=below_NxR)
    last_P = np.cumsum(sizes)[group_N[positive_N]]  # each positive's place in that order, behind those it ties with
    beaten_PxR = below_NxR[last_P]
    if len(sizes) < len(order_N):
        beaten_PxR = (beaten_PxR + below_NxR[last_P - sizes[group_N[positive_N]]]) / 2
    weights_PxR = weights_NxR[positive_N]
    won_R = np.einsum("pr,pr->r", weights_PxR, beaten_PxR).astype(np.float64)
    pairs_R = weights_PxR.sum(0, dtype=np.float64) * below_NxR[-1]
    return np.divide(won_R, pairs_R, out=np.full_like(won_R, np.nan), where=pairs_R > 0)


def _counts(mask_NxK: np.ndarray, weights_NxR: np.ndarray) -> np.ndarray:
    return (mask_NxK.T.astype(np.float32) @ weights_NxR).astype(np.float64)


def _mean_of_names(values_KxR: np.ndarray) -> np.ndarray:
    known = ~np.isnan(values_KxR)
    total_R = np.where(known, values_KxR, 0).sum(0)
    return np.divide(total_R, known.sum(0), out=np.full_like(total_R, np.nan), where=known.any(0))
