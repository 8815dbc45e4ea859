"""Ridge regression on labels of -1 and 1, the few-shot probe of big_vision, for many penalties at once.

One eigendecomposition of the smaller Gram matrix gives every penalty in closed form:

    W = X' (X X' + l2 I)^-1 Y = (X' X + l2 I)^-1 X' Y        with X and Y centred

Shapes: N examples, D features, K names or classes, M the smaller of N and D.
"""

from collections.abc import Callable, Iterator

import numpy as np

from mdc_jax.evaluators.fitting import Fitted, Labelled, Predict, Settings

L2S = tuple(2.0**i for i in range(-10, 21))
_CHUNK = 4096


class Ridge:
    """See `fitting.Recipe`."""

    scaling = "standardised"
    turned = False
    refits = False

    def sweep(self, data: Labelled, score: Callable[[Predict], float]) -> Iterator[tuple[Fitted, float]]:
        solve = _solver(data)
        for l2 in L2S:
            predict = solve(l2)
            yield Fitted({"l2": l2}, predict), score(predict)

    def fit(self, data: Labelled, settings: Settings) -> Predict:
        return _solver(data)(settings["l2"])


def _solver(data: Labelled) -> Callable[[float], Predict]:
    mean_D = data.x.mean(0, dtype=np.float64).astype(np.float32)
    mean_K = 2 * data.y.mean(0) - 1 if data.kind == "presence" else _shares(data) * 2 - 1
    dual = len(data.x) < data.x.shape[1]
    if dual:
        x = data.x - mean_D[None]
        gram, products = x @ x.T, 2 * data.targets() - 1 - mean_K[None]
    else:
        gram, products = _moments(data, mean_D, mean_K)
    spectrum_M, axes = np.linalg.eigh(gram.astype(np.float64))
    spectrum_M, projected_MxK = np.maximum(spectrum_M, 0), axes.T @ products

    def solve(l2: float) -> Predict:
        solution = axes @ (projected_MxK / (spectrum_M + l2)[:, None])
        weight_DxK = (x.T @ solution if dual else solution).astype(np.float32)

        def predict(features: np.ndarray) -> np.ndarray:
            deviation = (features - mean_D[None]) @ weight_DxK  # of the target from its mean
            return deviation + (data.prior_log_odds() if data.kind == "presence" else mean_K)[None]

        return predict

    return solve


def _moments(data: Labelled, mean_D: np.ndarray, mean_K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """X' X and X' Y of centred features and targets, f64, from a chunk of examples at a time."""
    gram, products = np.zeros((len(mean_D), len(mean_D))), np.zeros((len(mean_D), len(mean_K)))
    for first in range(0, len(data.x), _CHUNK):
        rows = slice(first, first + _CHUNK)
        x = data.x[rows] - mean_D[None]
        gram += x.T @ x
        products += x.T @ (2 * data.targets(rows) - 1 - mean_K[None].astype(np.float32))
    return gram, products


def _shares(data: Labelled) -> np.ndarray:
    return np.bincount(data.y, minlength=data.classes) / len(data.y)
