import jax
import jax.numpy as jnp
import numpy as np

from mdc_jax.ops import ranks


def test_the_first_are_those_that_a_stable_sort_has_first():
    rng = np.random.default_rng(0)
    priority = rng.integers(0, 4, (3, 5, 9)).astype(np.float32)  # with many equals
    priority[0, 0, :3] = np.nan
    among = rng.random((3, 5, 9)) < 0.6
    count = rng.integers(0, 10, (3, 5))
    chosen = np.asarray(jax.jit(ranks.first)(priority, among, count))
    for place in np.ndindex(3, 5):
        own = np.flatnonzero(among[place])
        ordered = own[np.argsort(-np.nan_to_num(priority[place][own], nan=-9), kind="stable")]
        assert set(np.flatnonzero(chosen[place])) == set(ordered[: count[place]])
    assert not ranks.first(jnp.ones((2, 4)), jnp.zeros((2, 4), bool), jnp.ones(2, jnp.int32)).any()
