import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from mdc_jax.evaluators import logistic_loss, solvers

N, D = 300, 12


def problem(seed: int, d: int = D) -> tuple[np.ndarray, np.ndarray]:
    """Correlated features, and logits of three names or classes that they explain in part."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((N, d)) @ rng.standard_normal((d, d)) / np.sqrt(d)
    x = (x - x.mean(0)) / x.std(0)
    return x.astype(np.float32), x[:, :3] * 2 + rng.gumbel(size=(N, 3))


def objective(x: np.ndarray, y: np.ndarray, weight: np.ndarray, bias: np.ndarray, l2: float, kind: str) -> float:
    z = x.astype(np.float64) @ weight + bias
    if kind == "presence":
        loss = np.logaddexp(0, z).sum(1) - (y * z).sum(1)
    else:
        loss = np.logaddexp.reduce(z, axis=1) - z[np.arange(len(z)), y]
    return loss.mean() + l2 / 2 * np.sum(weight.astype(np.float64) ** 2)


def scikit_learn(x: np.ndarray, y: np.ndarray, l2: float, kind: str) -> tuple[np.ndarray, np.ndarray]:
    def fit(labels: np.ndarray) -> LogisticRegression:
        return LogisticRegression(C=1 / (len(x) * l2), tol=1e-8, max_iter=5000).fit(x.astype(np.float64), labels)

    models = [fit(y[:, k]) for k in range(y.shape[1])] if kind == "presence" else [fit(y)]
    return np.concatenate([m.coef_ for m in models]).T, np.concatenate([m.intercept_ for m in models])


@pytest.mark.parametrize("kind", solvers.KINDS)
@pytest.mark.parametrize("l2", [1.0, 1e-2, 1e-4])
def test_agrees_with_scikit_learn(kind, l2):
    x, logits = problem(0)
    y = (logits > 1).astype(np.uint8) if kind == "presence" else logits.argmax(1)
    heads = solvers.fit(x, y, l2, kind=kind, classes=3, tolerance=1e-8)
    weight, bias = scikit_learn(x, y, l2, kind)
    expected = objective(x, y, weight, bias, l2, kind)
    assert heads.minimum.converged
    assert heads.minimum.value == pytest.approx(objective(x, y, heads.weight_DxK, heads.bias_K, l2, kind), rel=1e-5)
    assert heads.minimum.value == pytest.approx(expected, rel=1e-5)
    difference = heads.logits(x) - (x @ weight + bias)
    if kind == "class":  # a constant on all classes changes nothing
        difference -= difference.mean(1, keepdims=True)
    assert np.abs(difference).max() < 0.02 * max(1, np.abs(x @ weight).max())


@pytest.mark.parametrize("kind", solvers.KINDS)
def test_a_path_of_penalties_reaches_the_same_minima_sooner(kind):
    x, logits = problem(1)
    x = x @ solvers.principal_axes(x)
    y = (logits > 1).astype(np.uint8) if kind == "presence" else logits.argmax(1)
    l2s, heads, evaluations = np.geomspace(1, 1e-4, 20), None, {"cold": 0, "path": 0}
    for l2 in l2s:
        cold = solvers.fit(x, y, l2, kind=kind, classes=3)
        heads = solvers.fit(x, y, l2, kind=kind, classes=3, start=heads)
        assert heads.minimum.value == pytest.approx(cold.minimum.value, abs=1e-5)
        evaluations["cold"] += cold.minimum.evaluations
        evaluations["path"] += heads.minimum.evaluations
    assert evaluations["path"] < 0.6 * evaluations["cold"]


def test_the_gradient_is_that_of_the_loss():
    x, logits = problem(4)
    rng = np.random.default_rng(0)
    theta, direction = rng.standard_normal((2, D + 1, 3))
    for kind, y in (("presence", (logits > 1).astype(np.uint8)), ("class", logits.argmax(1))):
        _, gradient = logistic_loss.mean_loss(x, y, theta, kind)
        up, down = (logistic_loss.mean_loss(x, y, theta + step * direction, kind)[0] for step in (1e-2, -1e-2))
        assert (up - down) / 2e-2 == pytest.approx(np.sum(gradient * direction), rel=1e-3)


@pytest.mark.parametrize("d", [D, 2 * N])
def test_principal_axes_change_the_coordinates_but_not_the_problem(d):
    x, logits = problem(2, d)
    y = (logits > 1).astype(np.uint8)
    axes = solvers.principal_axes(x)
    assert axes.shape == (d, min(d, N - 1))  # centred features have one direction less than examples
    np.testing.assert_allclose(axes.T @ axes, np.eye(axes.shape[1]), atol=1e-3)
    covariance = (x @ axes).T @ (x @ axes)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-3 * covariance.max()
    direct = solvers.fit(x, y, 1e-2, kind="presence", tolerance=1e-8)
    rotated = solvers.fit(x @ axes, y, 1e-2, kind="presence", tolerance=1e-8)
    assert rotated.minimum.value == pytest.approx(direct.minimum.value, rel=1e-4)


def test_a_penalty_of_zero_is_refused():
    x, logits = problem(3)
    with pytest.raises(ValueError, match="positive"):
        solvers.fit(x, logits.argmax(1), 0.0, kind="class", classes=3)
