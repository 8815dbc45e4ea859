"""Losses over all pairs of the images and texts of a batch.

Where the batch is split over devices, each holds the similarities of its own images alone.

Shapes: B images and as many texts, row i of one belonging to row i of the other, E width of an embedding.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

DUPLICATES = ("left", "masked", "positive")
_EXCLUDED = -1e30  # a logit of pairs that do not count; finite, for the gradient of a row of them


@functools.partial(jax.tree_util.register_dataclass, data_fields=("row", "group", "weight"), meta_fields=())
@dataclasses.dataclass(frozen=True)
class Rows:
    """Of each row its number i32[B], the number of its text i32[B], equal for equal texts, and its weight f32[B].

    Rows of weight 0 are in no loss and among no negatives; the others weigh one part of their number each.
    """

    row: jax.Array
    group: jax.Array
    weight: jax.Array


def relation(images: Rows, texts: Rows, duplicates: str) -> tuple[jax.Array, jax.Array]:
    """Which pairs belong together, and which count at all, bool[B, B] each.

    Another row's equal text is no real negative: it is `left` as one all the same, `masked`, that
    is not compared, or `positive` like the own one. Raises ValueError for another policy.
    """
    if duplicates not in DUPLICATES:
        raise ValueError(f'duplicates "{duplicates}": choose one of {", ".join(DUPLICATES)}')
    own = images.row[:, None] == texts.row[None]
    equal = images.group[:, None] == texts.group[None]
    compared = (images.weight > 0)[:, None] & (texts.weight > 0)[None]
    if duplicates == "masked":
        compared &= own | ~equal
    return equal if duplicates == "positive" else own, compared


def duplicated(rows: Rows) -> jax.Array:
    """Which rows that count have a text that another one has too, bool[B]."""
    counted = rows.weight > 0
    copies = jnp.zeros(len(counted), jnp.int32).at[rows.group].add(counted)
    return counted & (copies[rows.group] > 1)


def similarities(images: jax.Array, texts: jax.Array) -> jax.Array:
    """f32[B, E] x f32[B, E] → f32[B, B]. Logits are many times these: reduced precision would be seen."""
    return jnp.matmul(images, texts.T, precision=jax.lax.Precision.HIGHEST)


def softmax_loss(
    images: jax.Array, texts: jax.Array, rows: Rows, scale: jax.Array, duplicates: str
) -> tuple[jax.Array, jax.Array]:
    """CLIP's loss (arXiv 2103.00020): find the text of each image among all texts, and the image of each text.

    Args:
      images: f32[B, E], of norm 1.
      texts: f32[B, E], of norm 1.
      rows: what the rows are.
      scale: f32[], multiplies similarities.
      duplicates: see `relation`; a row with several positives takes their mean.

    Returns the mean of both directions, and the share of the images whose likeliest text is a
    positive, f32[] each.
    """
    positive, compared = relation(rows, rows, duplicates)
    positive &= compared
    logits = jnp.where(compared, scale * similarities(images, texts), _EXCLUDED)
    count = jnp.maximum(positive.sum(1), 1)
    # Both relations are symmetric: those of the texts are those of the images.
    losses = [-jnp.where(positive, jax.nn.log_softmax(logits, axis), 0.0).sum(axis) / count for axis in (1, 0)]
    right = jnp.take_along_axis(positive, logits.argmax(1, keepdims=True), axis=1)[:, 0]
    return jnp.sum(rows.weight * sum(losses)) / 2, jnp.sum(rows.weight * right)


def sigmoid_loss(
    images: jax.Array,
    texts: jax.Array,
    rows: Rows,
    scale: jax.Array,
    bias: jax.Array,
    duplicates: str,
    *,
    chunk: int = 1024,
) -> tuple[jax.Array, jax.Array]:
    """SigLIP's loss (arXiv 2303.15343): does this text belong to this image, asked of every pair.

    `chunk` texts at a time, or fewer, are held against all images, and once more in the
    backward pass: no more similarities than these exist at once. Devices share the embeddings of the
    texts, which are few numbers, and never those of the images.

    Arguments and result as for `softmax_loss`; `bias` f32[] is added to the scaled similarities. The
    loss is the sum over the texts, its mean over the images.
    """
    batch, width = texts.shape
    count = -(-batch // chunk)
    chunk = -(-batch // count)
    more = count * chunk - batch  # rows of weight 0 fill the last part up

    def compare(
        carry: tuple[jax.Array, jax.Array, jax.Array], part: tuple[jax.Array, Rows]
    ) -> tuple[tuple[jax.Array, jax.Array, jax.Array], None]:
        total, best, right = carry
        some, of_some = part
        positive, compared = relation(rows, of_some, duplicates)
        logits = scale * similarities(images, some) + bias
        losses = jnp.where(compared, jax.nn.softplus(jnp.where(positive, -logits, logits)), 0.0)
        logits = jax.lax.stop_gradient(jnp.where(compared, logits, _EXCLUDED))
        top = logits.argmax(1, keepdims=True)
        top_logit = jnp.take_along_axis(logits, top, axis=1)[:, 0]
        right = jnp.where(top_logit > best, jnp.take_along_axis(positive, top, axis=1)[:, 0], right)
        return (total + losses.sum(1), jnp.maximum(best, top_logit), right), None

    parts = (
        jnp.pad(texts, ((0, more), (0, 0))).reshape(count, chunk, width),
        jax.tree.map(lambda x: jnp.pad(x, (0, more)).reshape(count, chunk), rows),
    )
    start = jnp.zeros(batch), jnp.full(batch, _EXCLUDED), jnp.zeros(batch, bool)
    (total, _, right), _ = jax.lax.scan(jax.checkpoint(compare), start, parts)
    return jnp.sum(rows.weight * total), jnp.sum(rows.weight * right)
