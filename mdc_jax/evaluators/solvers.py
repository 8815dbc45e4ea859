"""L2-regularised logistic regression by L-BFGS: many heads as one matrix product.

    presence   K independent yes/no labels     mean_i sum_k log(1 + exp(-+z_ik)) + l2/2 |W|^2
    class      one of K classes                mean_i -log softmax(z_i)[y_i]     + l2/2 |W|^2

with z = x W + b and b not regularised. scikit-learn's `LogisticRegression(C=1 / (N l2))` has the
same minimum.

Shapes: N examples, D features, K names or classes. Products are float32, the optimizer's state and
all sums over examples float64.
"""

import dataclasses

import numpy as np
from absl import logging

KINDS = ("presence", "class")


@dataclasses.dataclass(frozen=True)
class Heads:
    """A fitted set of heads: z = x @ weight + bias."""

    weight_DxK: np.ndarray
    bias_K: np.ndarray
    l2: float
    loss: float  # the objective, penalty included
    iterations: int
    converged: bool

    def logits(self, x_NxD: np.ndarray) -> np.ndarray:
        return x_NxD @ self.weight_DxK + self.bias_K


def principal_axes(x_NxD: np.ndarray) -> np.ndarray:
    """Directions f32[D, min(N, D)] in which the features are uncorrelated.

    The penalty does not see rotations, so fitting `x @ axes` is the same problem; but its diagonal
    is then all there is to know of the features' covariance, and the solver preconditions by it.
    """
    n, d = x_NxD.shape
    if d <= n:
        return np.linalg.eigh(x_NxD.T @ x_NxD)[1].astype(np.float32)
    # With fewer examples than features the solution lies in the span of the examples.
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
    tolerance: float = 1e-6,
    max_iterations: int = 300,
) -> Heads:
    """Minimises the objective until an iteration gains less than `tolerance` of it.

    Args:
      x_NxD: features f32, best on their principal axes.
      y: u8[N, K] for "presence"; i32[N] in [0, classes) for "class".
      l2: penalty per example (the loss is a mean).
      kind: "presence" or "class".
      classes: K for "class".
      start: heads to start from, those of a stronger penalty at best; the prior shares if None.
      tolerance: relative to max(objective, 1).
      max_iterations: of L-BFGS.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; expected one of {', '.join(KINDS)}")
    if l2 <= 0:
        raise ValueError(f"l2 is {l2}; expected a positive penalty, without which separable labels have no minimum")
    x_NxD = np.ascontiguousarray(x_NxD, np.float32)
    n, d = x_NxD.shape
    target_NxK = np.asarray(y, np.float32) if kind == "presence" else np.eye(classes, dtype=np.float32)[y]
    k = target_NxK.shape[1]
    loss_and_residual = _presence if kind == "presence" else _class
    share_K = np.clip(target_NxK.mean(0, dtype=np.float64), 0.5 / n, 1 - 0.5 / n)

    if start is None:
        odds_K = np.log(share_K / (1 - share_K)) if kind == "presence" else np.log(share_K)
        start = Heads(np.zeros((d, k)), odds_K, l2, np.inf, 0, False)

    # Diagonal preconditioner: the curvature where the fit starts, E[x_d^2 p (1 - p)] + l2; |residual| is p or 1 - p.
    residual_NxK = loss_and_residual(start.logits(x_NxD), target_NxK)[1]
    curvature_NxK = np.abs(residual_NxK) * (1 - np.abs(residual_NxK))
    curvature = np.concatenate([np.square(x_NxD).T @ curvature_NxK / n, curvature_NxK.mean(0)[None]])
    scale = np.sqrt(curvature + l2, dtype=np.float64)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        theta = flat.reshape(d + 1, k) / scale
        weight, bias = theta[:-1], theta[-1]
        logits = x_NxD @ weight.astype(np.float32)
        logits += bias.astype(np.float32)[None]
        loss, residual_NxK = loss_and_residual(logits, target_NxK)
        gradient = np.empty((d + 1, k))
        gradient[:-1] = (x_NxD.T @ residual_NxK) / n + l2 * weight
        gradient[-1] = residual_NxK.mean(0, dtype=np.float64)
        return loss / n + 0.5 * l2 * float(np.sum(weight**2)), (gradient / scale).ravel()

    import scipy.optimize  # slow to import, and training starts with evaluators in hand

    theta = np.concatenate([start.weight_DxK, start.bias_K[None]])
    result = scipy.optimize.minimize(
        objective,
        (theta * scale).ravel(),
        method="L-BFGS-B",
        jac=True,
        options={"maxiter": max_iterations, "maxcor": 10, "ftol": tolerance, "gtol": tolerance},
    )
    theta = result.x.reshape(d + 1, k) / scale
    converged = result.nit < max_iterations
    if not converged:
        logging.warning("logistic regression at L2 %g has not converged after %d iterations", l2, max_iterations)
    return Heads(
        weight_DxK=theta[:-1].astype(np.float32),
        bias_K=theta[-1].astype(np.float32),
        l2=float(l2),
        loss=float(result.fun),
        iterations=int(result.nit),
        converged=converged,
    )


def _presence(logits_NxK: np.ndarray, target_NxK: np.ndarray) -> tuple[float, np.ndarray]:
    """Summed binary cross-entropy and its gradient with respect to the logits."""
    small = np.exp(-np.abs(logits_NxK))
    loss = np.sum(np.maximum(logits_NxK, 0) - target_NxK * logits_NxK + np.log1p(small), dtype=np.float64)
    probability = np.where(logits_NxK >= 0, np.float32(1), small) / (1 + small)
    return float(loss), probability - target_NxK


def _class(logits_NxK: np.ndarray, target_NxK: np.ndarray) -> tuple[float, np.ndarray]:
    """Summed categorical cross-entropy and its gradient with respect to the logits."""
    shifted = logits_NxK - logits_NxK.max(1, keepdims=True)
    exponential = np.exp(shifted)
    total_N = exponential.sum(1, keepdims=True)
    loss = np.sum(np.log(total_N), dtype=np.float64) - np.sum(target_NxK * shifted, dtype=np.float64)
    return float(loss), exponential / total_N - target_NxK
