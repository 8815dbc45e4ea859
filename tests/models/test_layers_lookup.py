import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from mdc_jax.config import sections
from mdc_jax.models import layers
from mdc_jax.training import sharding


@pytest.mark.parametrize("mesh", [None, (8, 1, 1), (2, 2, 2)])
def test_gradients_of_a_row_that_is_looked_up_often_add_up_in_float32(mesh):
    # Sums of ones in bfloat16 stay at 256.
    index = jnp.zeros((4128, 1), jnp.int32).at[:32].set(1)
    rows = None
    if mesh:
        rows = NamedSharding(sharding.make_mesh(sections.Mesh(*mesh)), PartitionSpec(("data", "fsdp")))
        index = jax.device_put(index, rows)

    @jax.jit
    def found_and_gradient(table: jax.Array) -> tuple[jax.Array, jax.Array]:
        found, pull = jax.vjp(lambda table: layers.lookup(table, index, jnp.bfloat16, rows), table)
        return found, pull(jnp.ones_like(found))[0]

    found, gradient = found_and_gradient(jnp.arange(6.0).reshape(3, 2))
    assert found.dtype == jnp.bfloat16 and found.shape == (4128, 1, 2)
    np.testing.assert_array_equal(found[30:34, 0], [[2, 3], [2, 3], [0, 1], [0, 1]])
    np.testing.assert_array_equal(gradient, [[4096, 4096], [32, 32], [0, 0]])
