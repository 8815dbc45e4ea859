"""L-BFGS with a diagonal preconditioner, and a memory that outlives a change of the L2 penalty.

J. Nocedal, S. Wright: Numerical Optimization, algorithm 7.4. Pairs (step, change of the gradient) are those of the
loss alone. A penalty l2/2 |x|^2 adds l2 * step to each change, exactly: so what was learned of the curvature at one l2
holds at the next, and a path of many penalties costs little more than one.

Shapes: P parameters.
"""

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np

MEMORY = 10
_ARMIJO, _WOLFE = 1e-4, 0.9  # Numerical Optimization, equations 3.6
_ROUNDING = 1e-6  # relative: what float32 products leave unsure of a loss
_TRIALS = 12  # of a line search

# (parameters f64[P]) → loss and gradient f64[P], the penalty included.
Objective = Callable[[np.ndarray], tuple[float, np.ndarray]]
Pairs = tuple[tuple[np.ndarray, np.ndarray], ...]  # f32[P] each, oldest first


@dataclasses.dataclass(frozen=True)
class Minimum:
    """Where the search ended; `gradient_norm` is Euclidean, `excess` what another step was expected to gain."""

    x: np.ndarray
    value: float
    gradient_norm: float
    excess: float
    iterations: int
    evaluations: int
    pairs: Pairs
    converged: bool


def minimise(
    objective: Objective,
    x: np.ndarray,
    *,
    l2: np.ndarray,
    diagonal: np.ndarray,
    pairs: Pairs = (),
    tolerance: float,
    max_iterations: int,
) -> Minimum:
    """Minimises a convex objective until half the Newton decrement, what is left to gain, is at most `tolerance`.

    The decrement gradient' H^-1 gradient (Boyd, Vandenberghe: Convex Optimization, section 9.5.1) does not depend on
    the scale of the parameters, as the norm of a gradient does; H is the estimate of the memory.

    Args:
      objective: see `Objective`.
      x: f64[P], where to start.
      l2: f64[P], the penalty on each parameter.
      diagonal: f64[P], a guess of the Hessian's diagonal, penalty included.
      pairs: those of an earlier minimum, of the same loss.
      tolerance: in units of the objective.
      max_iterations: accepted steps at most.
    """
    value, gradient = objective(x)
    evaluations, iterations, pairs = 1, 0, list(pairs)
    while True:
        direction = -_inverse_hessian_times(gradient, pairs, l2, diagonal)
        excess = -0.5 * float(gradient @ direction)
        if excess <= tolerance or iterations == max_iterations:
            break
        step = _search(objective, x, direction, value, gradient)
        evaluations += step.evaluations
        if step.size == 0:  # nothing below: rounding is all that is left
            break
        iterations += 1
        moved = step.size * direction
        change = step.gradient - gradient - l2 * moved
        if moved @ change > 0:  # so that the pair is one of a convex loss at every penalty, in spite of rounding
            pairs = [*pairs, (moved.astype(np.float32), change.astype(np.float32))][-MEMORY:]
        x, value, gradient = x + moved, step.value, step.gradient
    norm = float(np.linalg.norm(gradient))
    return Minimum(x, value, norm, excess, iterations, evaluations, tuple(pairs), excess <= tolerance)


def _inverse_hessian_times(
    gradient: np.ndarray, pairs: Iterable[tuple[np.ndarray, np.ndarray]], l2: np.ndarray, diagonal: np.ndarray
) -> np.ndarray:
    """The two loops of algorithm 7.4."""
    q, kept = gradient.copy(), []
    for moved, change in reversed(list(pairs)):
        y = change + l2 * moved
        rho = 1 / (moved @ y)
        alpha = rho * (moved @ q)
        q -= alpha * y
        kept.append((moved, y, rho, alpha))
    q /= diagonal
    if kept:
        moved, y, rho, _ = kept[0]
        q *= 1 / (rho * (y @ (y / diagonal)))
    for moved, y, rho, alpha in reversed(kept):
        q += (alpha - rho * (y @ q)) * moved
    return q


@dataclasses.dataclass(frozen=True)
class _Step:
    size: float
    value: float
    gradient: np.ndarray
    evaluations: int


def _search(objective: Objective, x: np.ndarray, direction: np.ndarray, value: float, gradient: np.ndarray) -> _Step:
    """A step that lowers the value enough; where the full one does not, by the secant of the slope."""
    slope = float(gradient @ direction)
    size = 1.0
    for trial in range(1, _TRIALS + 1):
        new_value, new_gradient = objective(x + size * direction)
        new_slope = float(new_gradient @ direction)
        enough = new_value <= value + _ARMIJO * size * slope
        # Near the minimum values differ by less than rounding, and slopes still tell.
        flat = new_value <= value + _ROUNDING * abs(value) and abs(new_slope) <= _WOLFE * abs(slope)
        if enough or flat:
            return _Step(size, new_value, new_gradient, trial)
        size *= min(max(slope / (slope - new_slope), 0.1), 0.5) if new_slope > slope else 0.5
    return _Step(0.0, value, gradient, _TRIALS)
