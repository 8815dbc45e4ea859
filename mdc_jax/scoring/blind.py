"""What a model says of a caption without the image, and scores from which that is taken away.

Foils are often unnatural text, which a model that sees no image tells apart too: a score of image and
text is worth what it adds to a blind one.

Shapes: B images, C captions of an image, L tokens, M images of a bank, R replicates.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mdc_jax.scoring.score import Score, Scorer, of_replicates, standard_error

EXPONENTS = (0.0, 0.5, 1.0)  # of p(caption) in `debias`; fixed in advance, and all of them reported
FEWEST_IMAGES = 64  # of a bank, for a mean over them to stand for p(caption)
_MOST_ABOVE = 0.02  # of a blind decoder's loss: how much more the null memory's may be


def blind(
    scorer: Scorer,
    params: Any,
    bank: Mapping[str, jax.Array],
    captions: Mapping[str, jax.Array],
    key: jax.Array,
) -> Score:
    """log p(caption), as the log of the mean of p(caption | image) over a bank of training images.

    Every caption meets every image, one image at a time. Each is scored with the same random numbers
    as `scorer` has with this key, so that a difference to that score varies less. The noise of a
    Monte-Carlo estimate raises the value somewhat, as the exponential is convex.

    Args:
      scorer: of log-probabilities.
      params: of the model.
      bank: what `encode` finds for M images that the scorer needs, as in {"tokens": [M, N, D]};
        every array has the leading axis M. The mean over fewer than `FEWEST_IMAGES` is rough.
      captions: {"text": i32[B, C, L], "length": i32[B, C]}.
      key: that of the score with which this one is compared.

    Returns a score of the scorer's kind, f32[B, C], of the mixture over these M images; its
    replicates are linearised around the value. Raises ValueError for a scorer of similarities.
    """

    def with_image(features: Mapping[str, jax.Array]) -> Score:
        # One that all rows share, as the scorer then makes it ready once.
        return scorer(params, jax.tree.map(lambda x: x[None], features), captions, key)

    scores = jax.lax.map(with_image, bank)
    if scores.kind == "similarity":
        raise ValueError("a similarity is no log-probability and has no blind score: choose another scorer")
    share = jax.nn.softmax(scores.value, axis=0)  # of each image in the mean
    value = jax.nn.logsumexp(scores.value, axis=0) - jnp.log(scores.value.shape[0])
    if scores.replicates is None:
        return Score(value, jnp.sqrt(jnp.sum((share * scores.standard_error) ** 2, axis=0)), scores.kind)
    moved = jnp.sum(share[:, None] * (scores.replicates - scores.value[:, None]), axis=0)
    return of_replicates(value[None] + moved, scores.kind)


def debias(score: Score, blind: Score, exponent: float) -> Score:
    """log p(caption | image) - exponent log p(caption), for an exponent of `EXPONENTS`; heuristic unless it is 0."""
    if exponent == 0:
        return score
    value = score.value - exponent * blind.value
    if score.replicates is None or blind.replicates is None:
        return Score(value, jnp.hypot(score.standard_error, exponent * blind.standard_error), "heuristic")
    replicates = score.replicates - exponent * blind.replicates
    return Score(value, standard_error(replicates), "heuristic", replicates)


def images_text(count: int) -> str:
    """The images of a bank as reports name them, so that nobody takes a mean over a few for p(caption)."""
    return f"{count} training images" + (f" (rough: take {FEWEST_IMAGES} or more)" if count < FEWEST_IMAGES else "")


def null_memory_counts(null_loss: float, blind_loss: float) -> bool:
    """Whether scores with the null memory count as blind.

    They do where the held-out loss with the null memory is at most 2% above that of a decoder trained
    without images: a null memory that was seldom trained knows less of the captions than could be known.

    Args:
      null_loss: nats, of the model with its null memory.
      blind_loss: nats, of the decoder trained without images, on the same captions.
    """
    return null_loss <= (1 + _MOST_ABOVE) * blind_loss
