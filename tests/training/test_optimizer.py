"""A gradient is shortened to the limit, and only where it is longer."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mdc_jax.training.optimizer import clip_by_global_norm


@pytest.mark.parametrize("limit", [0.5, 5.0, 50.0])
def test_clipping_is_that_of_optax(limit: float) -> None:
    gradient = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([[4.0]])}
    clipped, _ = clip_by_global_norm(limit).update(gradient, clip_by_global_norm(limit).init(gradient))
    reference = optax.clip_by_global_norm(limit)
    expected, _ = reference.update(gradient, reference.init(gradient))
    for name in gradient:
        np.testing.assert_allclose(clipped[name], expected[name], rtol=1e-6)


def test_a_gradient_of_zero_stays() -> None:
    clipped, _ = clip_by_global_norm(1.0).update({"a": jnp.zeros(2)}, optax.EmptyState())
    np.testing.assert_array_equal(clipped["a"], [0.0, 0.0])
