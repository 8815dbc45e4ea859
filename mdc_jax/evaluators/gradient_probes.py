"""Linear probes trained by steps of gradient descent: all heads of a grid at once, in one pass over the features.

    adamw   AdamW over weight decays, as CLIP_benchmark's linear probe
    sgd     SGD with momentum over learning rates, as DINOv2's (arXiv 2304.07193, appendix B.3)

Both with a cosine schedule that ends at 0; README.md says in what they differ from these.
Shapes: B examples of a batch, D features, H heads, K names or classes.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mdc_jax.evaluators.fitting import Fitted, Labelled, Predict, Settings

BATCH, EPOCHS, LEAST_STEPS = 256, 10, 1_000
ADAMW_LR = 0.1
_DECAYS = tuple(float(f"{value:.3g}") for value in np.logspace(-6, 2, 17))
_RATES = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1)


@dataclasses.dataclass(frozen=True)
class GradientProbe:
    """See `fitting.Recipe`; `swept` is the name of the one setting, and `values` what it is tried at."""

    optimizer: str  # adamw or sgd
    scaling: str
    swept: str
    values: tuple[float, ...]
    refits: bool
    turned = False

    def sweep(self, data: Labelled, score: Callable[[Predict], float]) -> Iterator[tuple[Fitted, float]]:
        for value, predict in zip(self.values, self._train(data, self.values), strict=True):
            yield Fitted({self.swept: value}, predict), score(predict)

    def fit(self, data: Labelled, settings: Settings) -> Predict:
        return self._train(data, [settings[self.swept]])[0]

    def _train(self, data: Labelled, values: Sequence[float]) -> list[Predict]:
        count = len(values)
        rates, decays = (values, [0.0] * count) if self.optimizer == "sgd" else ([ADAMW_LR] * count, values)
        weight, bias = train(data, self.optimizer, np.float32(rates), np.float32(decays))
        return [functools.partial(_logits, weight[:, head], bias[head]) for head in range(count)]


def adamw() -> GradientProbe:
    return GradientProbe("adamw", "normalised", "weight_decay", _DECAYS, refits=True)


def sgd() -> GradientProbe:
    return GradientProbe("sgd", "raw", "lr", _RATES, refits=False)


def train(data: Labelled, optimizer: str, rates_H: np.ndarray, decays_H: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Trains H heads from zero; returns weights f32[D, H, K] and biases f32[H, K].

    Heads share the batches, drawn without replacement from (seed, epoch), and do not see each other: each is what it
    would be alone. EPOCHS are run, or LEAST_STEPS where that is more.
    """
    theta = jnp.zeros((data.x.shape[1] + 1, len(rates_H), data.classes))
    state = _transform(optimizer).init(theta)
    steps = max(EPOCHS * (len(data.x) // BATCH), LEAST_STEPS)
    for step, rows in enumerate(batches(len(data.x), BATCH, steps, data.seed)):
        rate_H = rates_H * np.float32(0.5 + 0.5 * np.cos(np.pi * step / steps))
        batch = jax.device_put((data.x[rows], data.y[rows], rate_H, decays_H))
        theta, state = _step(theta, state, *batch, kind=data.kind, optimizer=optimizer)
    theta = jax.device_get(theta)
    return theta[:-1], theta[-1]


def batches(count: int, size: int, steps: int, seed: int) -> Iterator[np.ndarray]:
    """Indices of `steps` batches, an epoch after the other in an order of its own; the incomplete batch is left out."""
    size = min(size, count)
    for step in range(steps):
        epoch, position = divmod(step, count // size)
        if position == 0:
            order = np.random.default_rng((seed, epoch)).permutation(count)
        yield order[position * size : (position + 1) * size]


def mean_loss(logits: jax.Array, y: jax.Array, kind: str) -> jax.Array:
    """Mean over the leading axis of the cross-entropy of [..., K], summed over names of presence."""
    if kind == "presence":
        return optax.sigmoid_binary_cross_entropy(logits, y.astype(jnp.float32)).sum(-1).mean(0)
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(0)


def _transform(optimizer: str) -> optax.GradientTransformation:
    return optax.scale_by_adam() if optimizer == "adamw" else optax.trace(decay=0.9)


@functools.partial(jax.jit, static_argnames=("kind", "optimizer"), donate_argnums=(0, 1))
def _step(
    theta: jax.Array,
    state: Any,
    x: jax.Array,
    y: jax.Array,
    rate_H: jax.Array,
    decay_H: jax.Array,
    *,
    kind: str,
    optimizer: str,
) -> tuple[jax.Array, Any]:
    def loss(theta: jax.Array) -> jax.Array:
        _, heads, classes = theta.shape
        logits = (x @ theta[:-1].reshape(-1, heads * classes)).reshape(-1, heads, classes) + theta[-1][None]
        labels = jnp.broadcast_to(y[:, None], (len(y), heads, *y.shape[1:]))
        return mean_loss(logits, labels, kind).sum()  # the gradient of one head does not see another

    with jax.default_matmul_precision("highest"):  # as `logistic` fits: rows of one table are on equal terms
        update, state = _transform(optimizer).update(jax.grad(loss)(theta), state)
    return theta - rate_H[None, :, None] * (update + decay_H[None, :, None] * theta), state


def _logits(weight_DxK: np.ndarray, bias_K: np.ndarray, x: np.ndarray) -> np.ndarray:
    return x @ weight_DxK + bias_K[None]
