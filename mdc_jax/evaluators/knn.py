"""k nearest neighbours by cosine similarity, their votes weighted by exp(similarity / T), as DINO's (arXiv 2104.14294).

Shapes: N examples to be predicted, S stored ones, D features, K names or classes.
"""

from collections.abc import Callable, Iterator

import numpy as np

from mdc_jax.evaluators.fitting import Fitted, Labelled, Predict, Settings

NEIGHBOURS = (10, 20, 100, 200)
TEMPERATURE = 0.07
_CHUNK = 512  # examples at most whose similarities to all stored ones exist at a time
_SIMILARITIES = 2**26  # at most, with their order .8 GB


class NearestNeighbours:
    """See `fitting.Recipe`."""

    scaling = "normalised"
    turned = False
    refits = False

    def sweep(self, data: Labelled, score: Callable[[Predict], float]) -> Iterator[tuple[Fitted, float]]:
        for k in sorted({min(k, len(data.x)) for k in NEIGHBOURS}):
            predict = self.fit(data, {"k": k})
            yield Fitted({"k": k}, predict), score(predict)

    def fit(self, data: Labelled, settings: Settings) -> Predict:
        k = int(settings["k"])

        def predict(features: np.ndarray) -> np.ndarray:
            size = max(1, min(_CHUNK, _SIMILARITIES // len(data.x)))
            chunks = [features[first : first + size] for first in range(0, len(features), size)]
            share_NxK = np.concatenate([_votes(chunk, data, k) for chunk in chunks])
            # Log odds of presence, log shares of classes; a share of exactly 0 or 1 stays finite.
            share_NxK = np.clip(share_NxK, 1e-6, 1 - 1e-6)
            return np.log(share_NxK) - (np.log1p(-share_NxK) if data.kind == "presence" else 0)

        return predict


def _votes(x_NxD: np.ndarray, stored: Labelled, k: int) -> np.ndarray:
    """The share of the neighbours' weight that each class or name has, f64[N, K]."""
    similarity_NxS = x_NxD @ stored.x.T
    nearest = np.argpartition(similarity_NxS, -k, axis=1)[:, -k:]
    similarity = np.take_along_axis(similarity_NxS, nearest, axis=1)
    weight = np.exp((similarity - similarity.max(1, keepdims=True)) / TEMPERATURE)
    weight /= weight.sum(1, keepdims=True)
    if stored.kind == "presence":
        return np.einsum("nk,nkc->nc", weight, stored.y[nearest], dtype=np.float64)
    share_NxK = np.zeros((len(x_NxD), stored.classes))
    np.add.at(share_NxK, (np.arange(len(x_NxD))[:, None], stored.y[nearest]), weight)
    return share_NxK
