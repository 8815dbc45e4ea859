"""The matrix products of a training step and nothing else: how fast a device could run it at best.

A chain through encoder, decoder and output layer, forwards and backwards, in the sizes and the dtype of a config. It
has no norms, activation functions, residuals, losses or optimizer. Attention is the kernel that the model uses, also
where that has a mask, which is left out itself. Queries and keys are of the first layer's input, so that the chain is
linear in what runs through it and stays finite.

Shapes: B images, N image tokens; T texts of L tokens, D their width; P tokens with a loss; V vocabulary.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mdc_jax.benchmarks.clock import fastest
from mdc_jax.models.layers import KeysValues, attend, attention_implementation
from mdc_jax.objectives.captioner import Captioner

Weights = Mapping[str, Any]


def seconds(
    objective: Captioner, *, batch_size: int, captions_per_image: int, predicted_tokens: float, dtype: Any, repeats: int
) -> float:
    """Of the fastest of `repeats` runs of the chain on the first device, after one that is not counted.

    Args:
      predicted_tokens: that have a loss, for an image.
    """
    arguments = make_arguments(
        objective,
        batch_size=batch_size,
        captions_per_image=captions_per_image,
        predicted=round(batch_size * predicted_tokens),
        dtype=dtype,
    )
    run = jax.jit(functools.partial(gradients, objective))
    return fastest(lambda: run(*arguments), repeats)


def make_arguments(
    objective: Captioner, *, batch_size: int, captions_per_image: int, predicted: int, dtype: Any
) -> tuple[Weights, jax.Array, jax.Array, jax.Array]:
    """Random arguments of `gradients`, in the sizes of an objective."""
    rng = np.random.default_rng(0)

    def normal(*shape: int, std: float = 1.0) -> jax.Array:
        return jnp.asarray(std * rng.standard_normal(shape, np.float32), dtype)

    def kernel(rows: int, columns: int) -> jax.Array:
        return normal(rows, columns, std=rows**-0.5)

    encoder, decoder = objective.encoder_sizes, objective.decoder_sizes
    width, hidden = decoder["width"], decoder["mlp_dim"]
    texts = batch_size * captions_per_image * objective.texts_per_caption
    weights = {
        "patches": kernel(3 * encoder.patch**2, encoder.width),
        "encoder": [
            {**_attention(kernel, encoder.width, encoder.width), **_mlp(kernel, encoder.width, encoder.mlp_dim)}
            for _ in range(encoder.depth)
        ],
        "decoder": [
            {
                **_attention(kernel, width, width),
                "cross": _attention(kernel, width, encoder.width),
                **_mlp(kernel, width, hidden),
            }
            for _ in range(decoder["depth"])
        ],
        "head": kernel(width, objective.vocab_size),
    }
    return (
        weights,
        normal(batch_size, objective.kept_tokens, 3 * encoder.patch**2),
        normal(texts, objective.max_tokens, width),
        normal(predicted, objective.vocab_size),
    )


def _attention(kernel: Any, width: int, memory_width: int) -> Weights:
    return {
        "query": kernel(width, width),
        "key": kernel(memory_width, width),
        "value": kernel(memory_width, width),
        "out": kernel(width, width),
    }


def _mlp(kernel: Any, width: int, hidden: int) -> Weights:
    return {"up": kernel(width, hidden), "down": kernel(hidden, width)}


def gradients(
    objective: Captioner, weights: Weights, patches: jax.Array, text: jax.Array, cotangent: jax.Array
) -> tuple[Weights, jax.Array]:
    """Those of the chain with respect to its weights and to what the decoder reads.

    Args:
      patches: [B, N, values of a patch].
      text: [T, L, D].
      cotangent: [P, V], of the first P rows of the output.
    """
    of_encoder, of_decoder = objective.encoder_sizes.heads, objective.decoder_sizes["heads"]
    masked = has_mask(objective)

    def forward(weights: Weights, text: jax.Array) -> jax.Array:
        images = first = patches @ weights["patches"]
        for layer in weights["encoder"]:
            images = _attend(layer, first, first, images, of_encoder) @ layer["up"] @ layer["down"]
        images = images[:, : objective.kept_memory]
        by_image = (len(images), -1, text.shape[-1])  # the texts of an image look at it together
        x = text
        for layer in weights["decoder"]:
            x = _attend(layer, text, text, x, of_decoder, masked=masked)
            x = _attend(layer["cross"], x.reshape(by_image), images, images, of_decoder).reshape(text.shape)
            x = x @ layer["up"] @ layer["down"]
        return x.reshape(-1, x.shape[-1])[: len(cotangent)] @ weights["head"]

    return jax.vjp(forward, weights, text)[1](cotangent)


def has_mask(objective: Captioner) -> bool:
    """Whether texts attend to themselves through a mask, for which the model takes another kernel."""

    def mask(text: jax.Array, length: jax.Array, key: jax.Array) -> jax.Array | None:
        return objective.attention_mask(objective.corrupt_text(text, length, key))

    text, length = (jax.ShapeDtypeStruct(shape, "int32") for shape in ((1, 1, objective.max_tokens), (1, 1)))
    return jax.eval_shape(mask, text, length, jax.random.key(0)) is not None


def _attend(
    layer: Weights, queries: jax.Array, keys: jax.Array, values: jax.Array, heads: int, *, masked: bool = False
) -> jax.Array:
    """Of [B, Q, D] to [B, S, any width]."""

    def by_head(x: jax.Array, name: str) -> jax.Array:
        x = x @ layer[name]
        return x.reshape(*x.shape[:2], heads, -1)

    query = by_head(queries, "query")
    implementation = attention_implementation(query.dtype, query.shape[-1], keys.shape[1], masked=masked)
    attended = attend(query, KeysValues(by_head(keys, "key"), by_head(values, "value")), None, implementation)
    return attended.reshape(queries.shape) @ layer["out"]
