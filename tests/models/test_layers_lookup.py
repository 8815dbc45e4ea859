import jax
import jax.numpy as jnp
import numpy as np

from mdc_jax.models import layers


def test_gradients_of_a_row_that_is_looked_up_often_add_up_in_float32():
    # Sums of ones in bfloat16 stay at 256.
    index = jnp.zeros(4096, jnp.int32).at[0].set(1)
    table = jnp.ones((3, 2))
    found, pull = jax.vjp(lambda table: layers.lookup(table, index, jnp.bfloat16, None), table)
    (gradient,) = pull(jnp.ones_like(found))
    assert found.dtype == jnp.bfloat16 and found.shape == (4096, 2)
    np.testing.assert_array_equal(gradient, [[4095, 4095], [1, 1], [0, 0]])
