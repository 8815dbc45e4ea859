"""What a model says of a caption without the image, and scores from which that is taken away.

Shapes: B images, C captions of an image, L tokens, M images of a bank.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

EXPONENTS = (0.0, 0.5, 1.0)  # of p(caption) in `debias`; fixed in advance, and all of them reported


def blind(
    scorer: Callable[..., Any],
    params: Any,
    bank: Mapping[str, jax.Array],
    captions: Mapping[str, jax.Array],
    key: jax.Array,
) -> Any:
    """log of the mean of p(caption | image) over a bank of M images: a `Score` f32[B, C] of the scorer's kind.

    `bank` holds their features, every array with the leading axis M; `captions` are {"text": i32[B, C, L], "length":
    i32[B, C]}. With the key of another score of these captions it has the same random numbers.
    """
    batch = captions["text"].shape[0]

    def with_image(features: Mapping[str, jax.Array]) -> Any:
        copies = jax.tree.map(lambda x: jnp.broadcast_to(x[None], (batch, *x.shape)), features)
        return scorer(params, copies, captions, key)

    scores = jax.lax.map(with_image, bank)
    share = jax.nn.softmax(scores.value, axis=0)
    return dataclasses.replace(
        scores,
        value=jax.nn.logsumexp(scores.value, axis=0) - jnp.log(scores.value.shape[0]),
        standard_error=jnp.sqrt(jnp.sum((share * scores.standard_error) ** 2, axis=0)),
    )


def debias(score: Any, blind: Any, exponent: float) -> Any:
    """log p(caption | image) - exponent log p(caption)."""
    return dataclasses.replace(
        score,
        value=score.value - exponent * blind.value,
        standard_error=jnp.hypot(score.standard_error, exponent * blind.standard_error),
    )
