import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdc_jax.ops import row_chunks


def test_chosen_rows_come_first_in_their_order_and_all_return():
    chosen = np.random.default_rng(0).random(50) < 0.4
    order, inverse = row_chunks.chosen_first(jnp.asarray(chosen))
    np.testing.assert_array_equal(order[: chosen.sum()], np.flatnonzero(chosen))
    np.testing.assert_array_equal(order[inverse], np.arange(50))


@pytest.mark.parametrize(
    ("rows", "least", "most", "expected"),
    [
        (8, 0, 1000, (8,)),
        (200, 0, 1000, (32,)),
        (512, 0, 1000, (128, 32)),
        (512, 0, 100, (32,)),
        (10**6, 0, 10**4, (8192, 2048, 512, 128, 32)),
        (512, 100, 1000, (100,)),
        (2000, 100, 1000, (400, 100)),
        (576, 1024, 10**5, (576,)),
    ],
)
def test_sizes_fall_to_what_wastes_little(rows, least, most, expected):
    assert row_chunks.sizes(rows, least, most) == expected


@pytest.mark.parametrize("count", [0, 1, 32, 127, 128, 300, 511, 512])
def test_chunks_cover_the_first_rows_once_and_few_more(count):
    sizes = row_chunks.sizes(512, 0, 1000)

    def visit(carry, start, size):
        visits, chunks = carry
        piece = jax.lax.dynamic_slice_in_dim(visits, start, size)
        return jax.lax.dynamic_update_slice_in_dim(visits, piece + 1, start, 0), chunks + 1

    carry = jnp.zeros(512, jnp.int32), jnp.zeros((), jnp.int32)
    visits, chunks = jax.jit(lambda n: row_chunks.fold(visit, carry, n, sizes))(jnp.asarray(count))
    covered = -(-count // 32) * 32
    np.testing.assert_array_equal(visits, np.arange(512) < covered)
    assert chunks == covered // 128 + covered % 128 // 32
