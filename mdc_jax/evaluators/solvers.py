"""L2-regularised logistic regression: many heads as one matrix product, and many penalties as one path.

    presence   K independent yes/no labels     mean_i sum_k log(1 + exp(-+z_ik)) + l2/2 |W|^2
    class      one of K classes                mean_i -log softmax(z_i)[y_i]     + l2/2 |W|^2

with z = x W + b and b not regularised (`logistic_loss.py`). scikit-learn's `LogisticRegression(C=1 / (N l2))` has the
same minimum.

Three things make a path of penalties cheap, of which each fit hands the next what it needs (`start`): the minimum,
the curvature that L-BFGS saw (`lbfgs.py`), and how the minimum moves with log(l2), along which it is extrapolated.

Shapes: N examples, D features, K names or classes. The optimizer's state is float64.
"""

import dataclasses

import numpy as np
from absl import logging

from mdc_jax.evaluators import lbfgs, logistic_loss
from mdc_jax.evaluators.logistic_loss import KINDS

_STRAIGHT = 1.0  # of log(l2)


@dataclasses.dataclass(frozen=True)
class Heads:
    """A fitted set of heads: z = x @ weight + bias."""

    weight_DxK: np.ndarray
    bias_K: np.ndarray
    l2: float
    minimum: lbfgs.Minimum
    drift: np.ndarray | None = None  # of the parameters with log(l2), from the fit that this one started at

    def logits(self, x_NxD: np.ndarray) -> np.ndarray:
        return x_NxD @ self.weight_DxK + self.bias_K[None]


def principal_axes(*parts: np.ndarray) -> np.ndarray:
    """Directions f32[D, min(N, D)] in which the features f32[N, D] of all parts together are uncorrelated.

    The penalty does not see rotations, so fitting `x @ axes` is the same problem; but its diagonal
    is then all there is to know of the features' covariance, and the solver preconditions by it.
    """
    if parts[0].shape[1] <= sum(map(len, parts)):
        return np.linalg.eigh(sum(x.T @ x for x in parts))[1].astype(np.float32)
    # With fewer examples than features the solution lies in the span of the examples.
    x_NxD = np.concatenate(parts)
    variance, left = np.linalg.eigh(x_NxD @ x_NxD.T)
    kept = variance > variance[-1] * 1e-6
    return (x_NxD.T @ (left[:, kept] / np.sqrt(variance[kept])[None])).astype(np.float32)


def fit(
    x_NxD: np.ndarray,
    y: np.ndarray,
    l2: float,
    *,
    kind: str,
    classes: int = 0,
    start: Heads | None = None,
    loss: logistic_loss.Loss | None = None,
    tolerance: float = 1e-6,
    max_iterations: int = 1_000,
) -> Heads:
    """Minimises the objective until what is left to gain is at most `tolerance`.

    Args:
      x_NxD: features f32, best on their principal axes.
      y: u8[N, K] for "presence"; i32[N] in [0, classes) for "class".
      l2: penalty per example (the loss is a mean).
      kind: "presence" or "class".
      classes: K for "class".
      start: heads to start from, best those of a near and stronger penalty; the prior shares if None.
      loss: that of `x_NxD` and `y`, where there is one already.
      tolerance: nats an example.
      max_iterations: of L-BFGS.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; expected one of {', '.join(KINDS)}")
    if l2 <= 0:
        raise ValueError(f"l2 is {l2}; expected a positive penalty, without which separable labels have no minimum")
    n, d = x_NxD.shape
    share_K = y.mean(0, dtype=np.float64) if kind == "presence" else np.bincount(y, minlength=classes) / n
    share_K = np.clip(share_K, 0.5 / n, 1 - 0.5 / n)
    k = len(share_K)

    penalty = np.full((d + 1, k), l2)
    penalty[-1] = 0  # of the bias
    penalty = penalty.ravel()
    # On principal axes the Hessian is close to the features' variance times that of the labels (D. Böhning 1992).
    variance_D = np.einsum("nd,nd->d", x_NxD, x_NxD) / np.float64(n)
    curvature = np.append(variance_D, 1.0)[:, None] * (share_K * (1 - share_K))[None]

    loss = loss or logistic_loss.of(x_NxD, y, kind)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = loss(flat.reshape(d + 1, k))
        return value + 0.5 * float(penalty @ flat**2), gradient.ravel() + penalty * flat

    minimum = lbfgs.minimise(
        objective,
        _starting_point(start, share_K, d, kind, l2).ravel(),
        l2=penalty,
        diagonal=curvature.ravel() + penalty,
        pairs=start.minimum.pairs if start else (),
        tolerance=tolerance,
        max_iterations=max_iterations,
    )
    if not minimum.converged:
        logging.warning(
            "logistic regression at L2 %g has not converged after %d iterations: %.1e nats are left",
            l2,
            minimum.iterations,
            minimum.excess,
        )
    theta, drift = minimum.x.reshape(d + 1, k), None
    if start is not None and start.l2 != l2:
        drift = (theta - start.minimum.x.reshape(d + 1, k)) / np.log(l2 / start.l2)
    return Heads(theta[:-1].astype(np.float32), theta[-1].astype(np.float32), float(l2), minimum, drift)


def _starting_point(start: Heads | None, share_K: np.ndarray, d: int, kind: str, l2: float) -> np.ndarray:
    if start is None:
        odds_K = np.log(share_K / (1 - share_K)) if kind == "presence" else np.log(share_K)
        return np.concatenate([np.zeros((d, len(share_K))), odds_K[None]])
    theta, log_ratio = start.minimum.x.reshape(d + 1, -1), np.log(l2 / start.l2)
    # A longer step leaves the neighbourhood in which the path is straight, and pays in iterations.
    return theta if start.drift is None or abs(log_ratio) > _STRAIGHT else theta + log_ratio * start.drift
