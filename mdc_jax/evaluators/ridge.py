"""Ridge regression on labels of -1 and 1, the few-shot probe of big_vision, for many penalties at once.

One eigendecomposition of the smaller Gram matrix gives every penalty in closed form:

    W = X' (X X' + l2 I)^-1 Y = (X' X + l2 I)^-1 X' Y        with X and Y centred

Shapes: N examples, D features, K names or classes, M the smaller of N and D.
"""

from collections.abc import Callable, Iterator

import numpy as np

from mdc_jax.evaluators.fitting import Fitted, Labelled, Predict, Settings

L2S = tuple(2.0**i for i in range(-10, 21))


class Ridge:
    """See `fitting.Recipe`."""

    scaling = "standardised"
    turned = False

    def sweep(self, data: Labelled, score: Callable[[Predict], float]) -> Iterator[tuple[Fitted, float]]:
        solve = _solver(data)
        for l2 in L2S:
            predict = solve(l2)
            yield Fitted({"l2": l2}, predict), score(predict)

    def fit(self, data: Labelled, settings: Settings) -> Predict:
        return _solver(data)(settings["l2"])


def _solver(data: Labelled) -> Callable[[float], Predict]:
    targets = 2 * data.targets() - 1
    mean_D, mean_K = data.x.mean(0, dtype=np.float64).astype(np.float32), targets.mean(0)
    x, y = data.x - mean_D[None], (targets - mean_K[None]).astype(np.float64)
    dual = len(x) < x.shape[1]
    spectrum_M, axes = np.linalg.eigh((x @ x.T if dual else x.T @ x).astype(np.float64))
    spectrum_M = np.maximum(spectrum_M, 0)
    projected_MxK = axes.T @ (y if dual else x.T.astype(np.float64) @ y)

    def solve(l2: float) -> Predict:
        solution = axes @ (projected_MxK / (spectrum_M + l2)[:, None])
        weight_DxK = (x.T @ solution if dual else solution).astype(np.float32)

        def predict(features: np.ndarray) -> np.ndarray:
            deviation = (features - mean_D[None]) @ weight_DxK  # of the target from its mean
            return deviation + (data.prior_log_odds() if data.kind == "presence" else mean_K)[None]

        return predict

    return solve
