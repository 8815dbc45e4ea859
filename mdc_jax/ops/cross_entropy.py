"""From the decoder's hidden states to logits and cross-entropy, at the predicted tokens only.

A caption has a loss at its masked tokens: most of B x L x V logits would be computed for nothing, and
held in memory beside their gradients. Here predicted rows, and no others, go through the output layer,
a chunk at a time; their gradients are taken there and then, while the logits exist, so that no product
is computed twice (as in arXiv 2410.10989, section 3.2).

Shapes: ... any leading axes, R rows (all leading axes as one), C rows of a chunk, D width, V vocabulary.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from mdc_jax.ops import row_chunks

_BLOCK = 2**12  # columns of the kernel's gradient that are added to at once: a product of all would be held beside it


@dataclasses.dataclass(frozen=True)
class Split:
    """Over which axes of a mesh the leading axis of hidden states, and the vocabulary, are split."""

    mesh: Mesh
    batch: tuple[str, ...]
    vocabulary: str


def logits(hidden: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """[..., D] x f32[D, V] + f32[V] → f32[..., V], multiplied in the dtype of `hidden`, summed in float32."""
    rows = hidden.reshape(-1, hidden.shape[-1])  # see mdc_jax/models/layers.py: Dense
    return (_product(rows, kernel.astype(hidden.dtype)) + bias[None]).reshape(*hidden.shape[:-1], -1)


def cross_entropy(
    hidden: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    targets: jax.Array,
    where: jax.Array,
    split: Split | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Scores predictions of `targets` i32[...] from `hidden` [..., D], where `where` bool[...] is true.

    Returns -log p(target) in nats, f32[...], and whether the target is the likeliest token (of equals,
    the first), bool[...]; 0 and false elsewhere. To be differentiated is `weighted_cross_entropy`.
    """
    nll, right, _, _ = _run(hidden, kernel, bias, targets, where.astype(jnp.float32), split, gradients=False)
    return nll, right


def with_likeliest(
    hidden: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    targets: jax.Array,
    where: jax.Array,
    split: Split | None = None,
) -> tuple[jax.Array, jax.Array]:
    """As `cross_entropy`, but returns -log p of the target and of the likeliest token, f32[...] each."""
    nll, _, likeliest, _ = _run(hidden, kernel, bias, targets, where.astype(jnp.float32), split, gradients=False)
    return nll, likeliest


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def weighted_cross_entropy(
    hidden: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    targets: jax.Array,
    weight: jax.Array,
    split: Split | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Sums weight -log p(target) over tokens, f32[]; tokens of weight 0 cost nothing.

    Arguments as for `cross_entropy`, with `weight` f32[...] in place of `where`. Also returns whether
    the target is the likeliest token, bool[...], false where the weight is 0. The gradient is that
    with respect to hidden states, kernel and bias; weights have none.
    """
    nll, right, _, _ = _run(hidden, kernel, bias, targets, weight, split, gradients=False)
    return jnp.sum(weight * nll), right


def _forward(hidden, kernel, bias, targets, weight, split):
    nll, right, _, gradients = _run(hidden, kernel, bias, targets, weight, split, gradients=True)
    return (jnp.sum(weight * nll), right), gradients


def _backward(split, gradients, cotangents):
    # Inside a training step the cotangent is the constant 1 and XLA drops the products.
    return *jax.tree.map(lambda g: (cotangents[0] * g).astype(g.dtype), gradients), None, None


weighted_cross_entropy.defvjp(_forward, _backward)

_Gradients = tuple[jax.Array, jax.Array, jax.Array]  # of hidden states, kernel and bias


def _run(
    hidden: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    targets: jax.Array,
    weight: jax.Array,
    split: Split | None,
    *,
    gradients: bool,
) -> tuple[jax.Array, jax.Array, jax.Array, _Gradients | None]:
    """-log p of the target, whether it is the likeliest token, -log p of that one, and gradients of the weighted sum.

    The first three are [...], and 0 where the weight is.
    """
    if split is None:
        return _local(hidden, kernel, bias, targets, weight, None, gradients=gradients)
    # A vocabulary that cannot be split evenly is whole on every device, as its parameters are.
    whole = kernel.shape[1] % split.mesh.shape[split.vocabulary] != 0
    rows, columns = PartitionSpec(split.batch), PartitionSpec(None if whole else split.vocabulary)
    matrix = PartitionSpec(None, *columns)
    return jax.shard_map(
        functools.partial(
            _local, split=dataclasses.replace(split, vocabulary="") if whole else split, gradients=gradients
        ),
        mesh=split.mesh,
        in_specs=(rows, matrix, columns, rows, rows),
        out_specs=(rows, rows, rows, (rows, matrix, columns) if gradients else None),
        check_vma=False,
    )(hidden, kernel, bias, targets, weight)


def _local(
    hidden: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    targets: jax.Array,
    weight: jax.Array,
    split: Split | None,
    *,
    gradients: bool,
) -> tuple[jax.Array, jax.Array, jax.Array, _Gradients | None]:
    """As `_run`, of the rows and the columns of one device."""
    vocabulary = split.vocabulary if split else ""
    shape, width = weight.shape, hidden.shape[-1]
    order, inverse = row_chunks.chosen_first(weight.reshape(-1) != 0)
    count = jnp.sum(weight != 0)
    if split:
        # All devices run as many chunks as the fullest: they would wait for it anyway, and sums over
        # devices inside the loop stay in step.
        count = jax.lax.pmax(count, split.mesh.axis_names)
    chunks = row_chunks.of_logits(order.size, bias.size)
    padded = jnp.pad(order, (0, -order.size % chunks[-1]))
    rows, target, scale = hidden.reshape(-1, width)[padded], targets.reshape(-1)[padded], weight.reshape(-1)[padded]
    scale = jnp.where(jnp.arange(padded.size) < order.size, scale, 0)
    kernel = kernel.astype(hidden.dtype)
    offset = jax.lax.axis_index(vocabulary) * bias.size if vocabulary else 0
    columns = offset + jnp.arange(bias.size)[None]

    def chunk(carry, start, size):
        def part(array: jax.Array) -> jax.Array:
            return jax.lax.dynamic_slice_in_dim(array, start, size)

        def put(array: jax.Array, value: jax.Array) -> jax.Array:
            return jax.lax.dynamic_update_slice_in_dim(array, value, start, axis=0)

        nll, right, likeliest, slopes = carry
        scores = _product(part(rows), kernel) + bias[None]
        norm, found_nll, found_right, found_likeliest = _score(scores, part(target), columns, vocabulary)
        nll, right, likeliest = put(nll, found_nll), put(right, found_right), put(likeliest, found_likeliest)
        if not gradients:
            return nll, right, likeliest, None
        into_rows, into_kernel, into_bias = slopes
        slope = (jnp.exp(scores - norm[:, None]) - (columns == part(target)[:, None])) * part(scale)[:, None]
        into_bias += slope.sum(0)
        slope = slope.astype(hidden.dtype)
        into_kernel = _add_product(into_kernel, part(rows).T, slope)
        return nll, right, likeliest, (put(into_rows, _product(slope, kernel.T)), into_kernel, into_bias)

    slopes = tuple(jnp.zeros(x.shape) for x in (rows, kernel, bias)) if gradients else None
    zeros = jnp.zeros(padded.shape), jnp.zeros(padded.shape, bool), jnp.zeros(padded.shape), slopes
    nll, right, likeliest, slopes = row_chunks.fold(chunk, zeros, count, chunks)
    # Rows of weight 0 that a device, or the last chunk, computed all the same do not count.
    nll, right, likeliest = (jnp.where(scale != 0, found, jnp.zeros_like(found)) for found in (nll, right, likeliest))
    if gradients:
        into_rows, into_kernel, into_bias = slopes
        if vocabulary:
            into_rows = jax.lax.psum(into_rows, vocabulary)
        if split:
            into_kernel, into_bias = jax.lax.psum((into_kernel, into_bias), split.batch)
        slopes = into_rows[inverse].reshape(hidden.shape).astype(hidden.dtype), into_kernel, into_bias
    nll, right, likeliest = (found[inverse].reshape(shape) for found in (nll, right, likeliest))
    return nll, right, likeliest, slopes


def _score(
    scores: jax.Array, target: jax.Array, columns: jax.Array, vocabulary: str
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """[C] each, of logits [C, V]: log of the sum of exp, -log p(target), whether the target is the likeliest token,
    and -log p of that one."""

    def over_devices(reduce, x):
        return reduce(x, vocabulary) if vocabulary else x

    top = over_devices(jax.lax.pmax, scores.max(1))
    norm = top + jnp.log(over_devices(jax.lax.psum, jnp.exp(scores - top[:, None]).sum(1)))
    local = target - columns[0, 0]
    here = (local >= 0) & (local < scores.shape[1])
    own = jnp.take_along_axis(scores, jnp.clip(local, 0, scores.shape[1] - 1)[:, None], axis=1)[:, 0]
    own = over_devices(jax.lax.psum, jnp.where(here, own, 0.0))[:, None]
    # An argmax would read the logits element by element on a CPU.
    beaten = (scores > own) | (scores == own) & (columns < target[:, None])
    right = ~over_devices(jax.lax.pmax, beaten.any(1).astype(jnp.int32)).astype(bool)
    return norm, norm - own[:, 0], right, norm - top


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, preferred_element_type=jnp.float32)


def _add_product(total: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    """total + a b, block by block of columns, in place."""

    def add(total: jax.Array, left: jax.Array | int, size: int) -> jax.Array:
        product = _product(a, jax.lax.dynamic_slice_in_dim(b, left, size, axis=1))
        block = jax.lax.dynamic_slice_in_dim(total, left, size, axis=1) + product
        return jax.lax.dynamic_update_slice_in_dim(total, block, left, axis=1)

    width = total.shape[1]
    blocks, rest = divmod(width, _BLOCK)
    if blocks:
        total = jax.lax.fori_loop(0, blocks, lambda i, total: add(total, i * _BLOCK, _BLOCK), total)
    return add(total, width - rest, rest) if rest else total
