"""Masking schedules: which share of a caption is masked at time t, and what that weighs.

A schedule is m: [0, 1] → [0, 1], rising, m(0) = 0, m(1) = 1. Schedules are named by their formula,
because the field's names clash ("cosine" is sin(pi t / 2) in some codebases and 1 - cos(pi t / 2)
in others).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Schedule(NamedTuple):
    ratio: Callable[[jax.Array], jax.Array]  # m(t)
    derivative: Callable[[jax.Array], jax.Array]  # m'(t)
    inverse: Callable[[float], float]  # t(m)


SCHEDULES = {
    "linear": Schedule(lambda t: t, jnp.ones_like, lambda m: m),
    "one_minus_cosine": Schedule(
        lambda t: 1 - jnp.cos(math.pi / 2 * t),
        lambda t: math.pi / 2 * jnp.sin(math.pi / 2 * t),
        lambda m: 2 / math.pi * math.acos(1 - m),
    ),
    "sine": Schedule(
        lambda t: jnp.sin(math.pi / 2 * t),
        lambda t: math.pi / 2 * jnp.cos(math.pi / 2 * t),
        lambda m: 2 / math.pi * math.asin(m),
    ),
    "quadratic": Schedule(jnp.square, lambda t: 2 * t, math.sqrt),
}


def ratio_and_slope(name: str, interval: tuple[float, float], u: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Masking ratios of a schedule that runs over an interval [a, b] of *ratios* while u runs over [0, 1].

    The loss at a time weighs slope / ratio, the m'(t) / m(t) of the negative ELBO. Times are uniform
    between t(a) and t(b); the slope is m'(t) (t(b) - t(a)) / (b - a), whose factor makes the expected
    loss the same for every schedule: its integral over the ratio, divided by b - a. It is 1 for the
    linear schedule, and for a = b.

    Args:
      u: f32[...] in [0, 1].

    Returns the ratio and the slope, f32[...] each. Raises ValueError for an unknown schedule, and
    unless 0 <= a <= b <= 1 and b > 0.
    """
    low, high = interval
    if name not in SCHEDULES:
        raise ValueError(f'schedule "{name}": choose one of {", ".join(SCHEDULES)}')
    if not (0 <= low <= high <= 1 and high > 0):
        raise ValueError(f"interval {interval}: expected masking ratios 0 <= a <= b <= 1 with b > 0")
    if low == high:
        return jnp.full_like(u, low), jnp.ones_like(u)
    schedule = SCHEDULES[name]
    start, end = schedule.inverse(low), schedule.inverse(high)
    t = start + (end - start) * u
    ratio = jnp.clip(schedule.ratio(t), low, high)  # rounding must not leave the interval
    return ratio, schedule.derivative(t) * ((end - start) / (high - low))
