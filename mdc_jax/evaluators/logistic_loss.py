"""The mean loss of logistic regression and its gradient: by NumPy on a processor, else on an accelerator.

    presence   K independent yes/no labels     mean_i sum_k log(1 + exp(-+z_ik))
    class      one of K classes                mean_i -log softmax(z_i)[y_i]

with z = x W + b. Products are float32, without the fewer bits that accelerators take for it unless told; sums of chunks
of examples are float64 on a processor. Examples are read a chunk at a time, so that logits of all never exist and
features may be a memory-mapped file.

Shapes: N examples, D features, K names or classes.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from mdc_jax.evaluators import gradient_probes
from mdc_jax.training import memory

KINDS = ("presence", "class")
_CHUNK = 2048  # examples whose logits stay in the cache of a core
_DEVICE_CHUNK = 16_384  # enough for products that fill a device
_OF_LOGITS = 4  # arrays of their size that a chunk needs: themselves, probabilities, gradients and room to compute them
_USABLE = 0.9  # of what is left of a device's memory

# Parameters f64[D + 1, K], whose last row is the bias → the loss, and its gradient f64[D + 1, K].
Loss = Callable[[np.ndarray], tuple[float, np.ndarray]]


def of(x_NxD: np.ndarray, y: np.ndarray, kind: str, device: jax.Device | None = None) -> Loss:
    """The loss of features f32[N, D] and labels, u8[N, K] of "presence" or i32[N] of a "class".

    They are put on `device`, by default the first of this process, where that is no processor and has room for them;
    they stay there as long as the function that is returned.
    """
    device = device or jax.local_devices()[0]
    if device.platform == "cpu" or not _fits(x_NxD, y, device):
        return functools.partial(mean_loss, x_NxD, y, kind=kind)
    return OnDevice(x_NxD, y, kind, device)


def _fits(x_NxD: np.ndarray, y: np.ndarray, device: jax.Device) -> bool:
    limit = memory.capacity(device)
    if limit is None:
        return True
    left = _USABLE * (limit - (device.memory_stats() or {}).get("bytes_in_use", 0))
    classes = y.shape[1] if y.ndim == 2 else int(y.max()) + 1
    logits = min(len(x_NxD), _DEVICE_CHUNK) * classes
    needed = 4 * (x_NxD.size + _OF_LOGITS * logits) + y.nbytes
    if needed > left:
        logging.warning(
            "logistic regression runs on the processor: features and logits of %.1f GB do not fit into %.1f GB of a %s",
            needed / 1e9,
            left / 1e9,
            device.device_kind,
        )
    return needed <= left


class OnDevice:
    """A `Loss` whose examples lie on one device."""

    def __init__(self, x_NxD: np.ndarray, y: np.ndarray, kind: str, device: jax.Device) -> None:
        rows = [slice(first, first + _DEVICE_CHUNK) for first in range(0, len(x_NxD), _DEVICE_CHUNK)]
        self._chunks = [jax.device_put((x_NxD[part], y[part]), device) for part in rows]
        self._count, self._kind, self._device = len(x_NxD), kind, device

    def __call__(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        parameters = jax.device_put(theta.astype(np.float32), self._device)
        losses, gradient = [], jnp.zeros_like(parameters)
        for x, y in self._chunks:
            loss, gradient = _add(gradient, parameters, x, y, self._kind)
            losses.append(loss)
        total = float(np.sum(jax.device_get(losses), dtype=np.float64))
        return total / self._count, np.asarray(gradient, np.float64) / self._count


@functools.partial(jax.jit, static_argnames="kind", donate_argnums=0)
def _add(
    gradient: jax.Array, parameters: jax.Array, x: jax.Array, y: jax.Array, kind: str
) -> tuple[jax.Array, jax.Array]:
    """The summed loss of a chunk, and its gradient added to that of others."""

    def loss(parameters: jax.Array) -> jax.Array:
        logits = jnp.dot(x, parameters[:-1], precision=jax.lax.Precision.HIGHEST) + parameters[-1][None]
        return len(x) * gradient_probes.mean_loss(logits, y, kind).sum()

    value, of_chunk = jax.value_and_grad(loss)(parameters)
    return value, gradient + of_chunk


def mean_loss(x_NxD: np.ndarray, y: np.ndarray, theta: np.ndarray, kind: str) -> tuple[float, np.ndarray]:
    """The mean loss without a penalty, and its gradient f64[D + 1, K]; the bias is the last row of `theta`."""
    weight_DxK, bias_K = theta[:-1].astype(np.float32), theta[-1].astype(np.float32)
    loss_and_residual = _presence if kind == "presence" else _class
    total, gradient = 0.0, np.zeros(theta.shape)
    for first in range(0, len(x_NxD), _CHUNK):
        x = x_NxD[first : first + _CHUNK]
        logits = x @ weight_DxK
        logits += bias_K[None]
        loss, residual = loss_and_residual(logits, y[first : first + _CHUNK])
        total += loss
        gradient[:-1] += x.T @ residual
        gradient[-1] += residual.sum(0, dtype=np.float64)
    return total / len(x_NxD), gradient / len(x_NxD)


def _presence(logits_NxK: np.ndarray, label_NxK: np.ndarray) -> tuple[float, np.ndarray]:
    """Summed binary cross-entropy and its gradient with respect to the logits."""
    small = np.exp(-np.abs(logits_NxK))
    loss = np.sum(np.maximum(logits_NxK, 0) - label_NxK * logits_NxK + np.log1p(small), dtype=np.float64)
    probability = np.where(logits_NxK >= 0, np.float32(1), small) / (1 + small)
    return float(loss), probability - label_NxK


def _class(logits_NxK: np.ndarray, label_N: np.ndarray) -> tuple[float, np.ndarray]:
    """Summed categorical cross-entropy and its gradient with respect to the logits, written over them."""
    rows, residual = np.arange(len(label_N)), logits_NxK
    residual -= residual.max(1, keepdims=True)
    loss = -np.sum(residual[rows, label_N], dtype=np.float64)
    np.exp(residual, out=residual)
    total_N = residual.sum(1, keepdims=True)
    loss += np.sum(np.log(total_N), dtype=np.float64)
    residual /= total_N
    residual[rows, label_N] -= 1
    return float(loss), residual
