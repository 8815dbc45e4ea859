import numpy as np

from mdc_jax.evaluators import lbfgs

P = 30


def quadratic(l2: float):
    """A loss whose curvature its diagonal does not tell, and the minimum with the penalty."""
    rng = np.random.default_rng(0)
    half = rng.standard_normal((P, P))
    hessian, linear = half @ half.T / P, rng.standard_normal(P)

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        gradient = hessian @ x + l2 * x - linear
        return float(0.5 * x @ hessian @ x + 0.5 * l2 * x @ x - linear @ x), gradient

    return objective, np.linalg.solve(hessian + l2 * np.eye(P), linear), np.diag(hessian) + l2


def minimise(l2: float, **settings) -> lbfgs.Minimum:
    objective, _, diagonal = quadratic(l2)
    settings = {"tolerance": 1e-10, "max_iterations": 200, "x": np.zeros(P), **settings}
    return lbfgs.minimise(objective, l2=np.full(P, l2), diagonal=diagonal, **settings)


def test_the_minimum_of_a_quadratic_is_found():
    found = minimise(0.1)
    assert found.converged
    np.testing.assert_allclose(found.x, quadratic(0.1)[1], atol=1e-4)


def test_curvature_that_was_seen_at_one_penalty_holds_at_another():
    first = minimise(0.1)
    alone, after = minimise(0.05, x=first.x), minimise(0.05, x=first.x, pairs=first.pairs)
    np.testing.assert_allclose(after.x, quadratic(0.05)[1], atol=1e-4)
    assert after.evaluations < alone.evaluations


def test_it_ends_when_little_is_left_to_gain_or_iterations_are_used_up():
    objective, best, _ = quadratic(0.1)
    found = minimise(0.1, tolerance=1e-3)
    assert found.value - objective(best)[0] < 1e-2
    assert found.iterations < minimise(0.1).iterations
    ended = minimise(1e-3, max_iterations=3)
    assert (ended.converged, ended.iterations) == (False, 3)
    assert ended.excess > 1e-3
