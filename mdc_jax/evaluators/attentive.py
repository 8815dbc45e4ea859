"""Attentive probe: one learned query looks at all tokens, and a linear head reads what it saw.

The pooling of "Set Transformer" (arXiv 1810.00825, PMA with one seed), without the MLP behind it: what is found is
what a weighted mean of the tokens can tell, in each of the heads. AdamW, cosine schedule, a few learning rates.

Shapes: B examples of a batch, N of a split, T tokens, D width, K names or classes.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from mdc_jax.evaluators.fitting import Fitted, Labelled, Predict, Settings
from mdc_jax.evaluators.gradient_probes import batches, mean_loss
from mdc_jax.models import layers

BATCH, EPOCHS, LEAST_STEPS = 128, 10, 500
LEARNING_RATES = (3e-4, 1e-3, 3e-3)
WEIGHT_DECAY = 0.01
_HEAD_WIDTH = 64


class AttentivePooling(nn.Module):
    """Tokens [B, T, D] to logits [B, K]."""

    classes: int

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        width = tokens.shape[-1]
        heads = math.gcd(width, max(width // _HEAD_WIDTH, 1))
        query = self.param("query", nn.initializers.normal(0.02), (1, 1, width))
        tokens = nn.LayerNorm(name="norm")(tokens)
        seen = layers.Attention(width, heads, name="attention")(
            jnp.broadcast_to(query, (len(tokens), 1, width)), tokens
        )
        return layers.Dense(self.classes, name="head")(seen[:, 0])


class Attentive:
    """See `fitting.Recipe`; its features are tokens f32[N, T, D]."""

    scaling = "raw"  # a LayerNorm comes first
    turned = False
    refits = False

    def sweep(self, data: Labelled, score: Callable[[Predict], float]) -> Iterator[tuple[Fitted, float]]:
        for rate in LEARNING_RATES:
            predict = self.fit(data, {"lr": rate})
            yield Fitted({"lr": rate}, predict), score(predict)

    def fit(self, data: Labelled, settings: Settings) -> Predict:
        module = AttentivePooling(data.classes)
        steps = max(EPOCHS * (len(data.x) // BATCH), LEAST_STEPS)
        params, state = _init(jax.random.key(data.seed), jax.device_put(data.x[:1]), module=module)
        for step, rows in enumerate(batches(len(data.x), BATCH, steps, data.seed)):
            rate = np.float32(settings["lr"] * (0.5 + 0.5 * math.cos(math.pi * step / steps)))
            batch = jax.device_put((data.x[rows], data.y[rows], rate))
            params, state = _step(params, state, *batch, module=module, kind=data.kind)

        def predict(features: np.ndarray) -> np.ndarray:
            chunks = [features[first : first + BATCH] for first in range(0, len(features), BATCH)]
            return np.concatenate([jax.device_get(_apply(params, chunk, module=module)) for chunk in chunks])

        return predict


def _optimizer() -> optax.GradientTransformation:
    return optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(WEIGHT_DECAY))


@functools.partial(jax.jit, static_argnames="module")
def _init(key: jax.Array, x: jax.Array, *, module: AttentivePooling) -> tuple[Any, Any]:
    params = module.init(key, x)
    return params, _optimizer().init(params)


@functools.partial(jax.jit, static_argnames=("module", "kind"), donate_argnums=(0, 1))
def _step(
    params: Any, state: Any, x: jax.Array, y: jax.Array, rate: jax.Array, *, module: AttentivePooling, kind: str
) -> tuple[Any, Any]:
    with jax.default_matmul_precision("highest"):  # as other probes are fitted
        grads = jax.grad(lambda params: mean_loss(module.apply(params, x), y, kind))(params)
    updates, state = _optimizer().update(grads, state, params)
    return jax.tree.map(lambda value, update: value - rate * update, params, updates), state


@functools.partial(jax.jit, static_argnames="module")
def _apply(params: Any, x: jax.Array, *, module: AttentivePooling) -> jax.Array:
    with jax.default_matmul_precision("highest"):
        return module.apply(params, x)
