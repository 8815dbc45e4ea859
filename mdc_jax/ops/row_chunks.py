"""Work on the chosen rows of a matrix, in time proportional to their number, under static shapes.

Shapes: R rows, C rows of a chunk, ... any trailing axes.
"""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp

_SMALLEST = 32  # rows: fewer would read a matrix that they are multiplied with more slowly than they use it
_FACTOR = 4  # between the sizes of chunks
_MOST_BYTES = 2**28  # of the logits of a chunk

Carry = TypeVar("Carry")
Rows = TypeVar("Rows")
Results = TypeVar("Results")


def chosen_first(chosen: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Orders rows so that the chosen ones, bool[R], come first.

    Returns the order, i32[R], and its inverse: `x[order][inverse]` is `x`.
    """
    inverse = jnp.where(chosen, jnp.cumsum(chosen), chosen.sum() + jnp.cumsum(~chosen)) - 1
    return jnp.zeros_like(inverse).at[inverse].set(jnp.arange(chosen.size), unique_indices=True), inverse


def sizes(rows: int, least: int, most: int, share: float = 1 / _FACTOR) -> tuple[int, ...]:
    """Rows C of the chunks that `rows` rows are cut into: from `most` down to `least`, but no fewer than 32.

    The largest chunks are the fastest; the smallest ones, of which at most three are needed, keep the
    work close to what there is. None has more than a `share` of all rows: a quarter is enough where many are
    not chosen.
    """
    found = [min(max(_SMALLEST, least), rows)]
    while found[-1] * _FACTOR <= min(most, int(share * rows)):
        found.append(found[-1] * _FACTOR)
    return tuple(reversed(found))


def of_logits(rows: int, vocabulary: int, share: float = 1 / _FACTOR) -> tuple[int, ...]:
    """`sizes` of chunks whose logits f32[C, V] exist one chunk at a time."""
    bytes_of_a_row = 4 * vocabulary
    return sizes(rows, _least_bytes() // bytes_of_a_row, _MOST_BYTES // bytes_of_a_row, share)


def _least_bytes() -> int:
    """Of logits: for fewer, a turn of the loop costs more than the rows that it saves.

    At every turn a GPU waits for its host, while it could compute hundreds of rows.
    """
    return 2**26 if jax.default_backend() == "gpu" else 2**20


def fold(
    function: Callable[[Carry, jax.Array, int], Carry], carry: Carry, count: jax.Array, sizes: tuple[int, ...]
) -> Carry:
    """Folds `function(carry, start, C) → carry` over chunks that cover the first `count` i32[] rows.

    They are rounded up to a multiple of the smallest size.
    """
    left, start = -(-count // sizes[-1]) * sizes[-1], jnp.zeros((), jnp.int32)
    for size in sizes:
        chunks = left // size
        carry = jax.lax.fori_loop(
            0, chunks, lambda i, carry, size=size, first=start: function(carry, first + i * size, size), carry
        )
        left, start = left - chunks * size, start + chunks * size
    return carry


def over_chosen(function: Callable[[Rows], Results], chosen: jax.Array, rows: Rows, sizes: tuple[int, ...]) -> Results:
    """Maps arrays [C, ...] of chunks of rows to arrays [C, ...], for the chosen rows, bool[R], of arrays [R, ...].

    Returns arrays [R, ...], 0 for the other rows.
    """
    order, inverse = chosen_first(chosen)
    order = jnp.pad(order, (0, -order.size % sizes[-1]))

    def chunk(results: Results, start: jax.Array, size: int) -> Results:
        index = jax.lax.dynamic_slice_in_dim(order, start, size)
        found = function(jax.tree.map(lambda x: x[index], rows))
        return jax.tree.map(
            lambda whole, part: jax.lax.dynamic_update_slice_in_dim(whole, part, start, axis=0), results, found
        )

    one = jax.eval_shape(function, jax.tree.map(lambda x: x[:1], rows))
    empty = jax.tree.map(lambda x: jnp.zeros((order.size, *x.shape[1:]), x.dtype), one)
    results = fold(chunk, empty, chosen.sum(), sizes)

    def back(x: jax.Array) -> jax.Array:
        return jnp.where(chosen.reshape(-1, *[1] * (x.ndim - 1)), x[inverse], 0)

    return jax.tree.map(back, results)
