"""L2-regularised logistic regression, as CLIP's linear probe (arXiv 2103.00020, appendix A.3).

Two ways to sweep the L2: a search by factors of ten from FIRST_L2 to weaker values until two in a row bring no gain,
and where nothing weaker was better to stronger ones likewise; or a number of values over the whole of LIMITS.
"""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from mdc_jax.evaluators import logistic_loss, solvers
from mdc_jax.evaluators.fitting import Fitted, Labelled, Predict, Settings

FIRST_L2, STEP = 1.0, 10.0
LIMITS = (1e-7, 1e3)
PATIENCE = 2  # values without a gain that end the search

Fit = Callable[[float, solvers.Heads | None], solvers.Heads]


@dataclasses.dataclass(frozen=True)
class Logistic:
    """See `fitting.Recipe`; `l2_values` 0 searches, N > 0 tries N values over LIMITS."""

    l2_values: int = 0
    scaling = "standardised"
    turned = True
    refits = True

    def sweep(self, data: Labelled, score: Callable[[Predict], float]) -> Iterator[tuple[Fitted, float]]:
        loss = logistic_loss.of(data.x, data.y, data.kind)

        def fit(l2: float, start: solvers.Heads | None) -> solvers.Heads:
            return _fit(data, l2, start, loss)

        steps = _path(fit, self.l2_values, score) if self.l2_values else search(fit, lambda h: score(h.logits))
        for heads, value in steps:
            yield Fitted({"l2": heads.l2}, heads.logits), value

    def fit(self, data: Labelled, settings: Settings) -> Predict:
        return _fit(data, settings["l2"], None).logits


def _fit(
    data: Labelled, l2: float, start: solvers.Heads | None, loss: logistic_loss.Loss | None = None
) -> solvers.Heads:
    return solvers.fit(data.x, data.y, l2, kind=data.kind, classes=data.classes, start=start, loss=loss)


def _path(fit: Fit, values: int, score: Callable[[Predict], float]) -> Iterator[tuple[solvers.Heads, float]]:
    heads = None
    for l2 in np.geomspace(LIMITS[1], LIMITS[0], values):
        heads = fit(float(l2), heads)
        yield heads, score(heads.logits)


def search(fit: Fit, score: Callable[[solvers.Heads], float]) -> Iterator[tuple[solvers.Heads, float]]:
    """Yields heads and their scores until the best has been passed on both sides, or LIMITS are reached.

    Args:
      fit: (l2, heads to start from) → heads.
      score: larger is better.
    """
    first = fit(FIRST_L2, None)
    first_score = best_score = score(first)
    yield first, first_score
    for factor in (1 / STEP, STEP):
        last, without_gain = first, 0
        while without_gain < PATIENCE:
            l2 = last.l2 * factor
            if not LIMITS[0] * 0.99 < l2 < LIMITS[1] * 1.01:
                break
            last = fit(l2, last)
            last_score = score(last)
            yield last, last_score
            without_gain = 0 if last_score > best_score else without_gain + 1
            best_score = max(best_score, last_score)
        if best_score > first_score:
            return
