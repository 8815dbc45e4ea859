"""Captions of three tokens whose exact conditionals are known, and all their masks.

Shapes: B images, C captions of an image.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from tests.decoding.test_masked import DEPENDENT as JOINT
from tests.decoding.test_masked import MASK, tabular

__all__ = ["JOINT", "TEXT", "TEXTS", "enumerated", "masks", "nll_of", "predict_of", "warped"]

TEXT = np.array([2, 0, 1])
TEXTS = np.array(list(itertools.product(range(3), repeat=3)))


def predict_of(texts):
    """For i32[B, C, 3]: masked bool[B, C, 3] → -log p of the masked ones given the others, and of the likeliest."""

    def predict(masked):
        text = jnp.broadcast_to(jnp.asarray(texts), masked.shape).reshape(-1, 3)
        logp = jax.nn.log_softmax(tabular(jnp.where(masked.reshape(-1, 3), MASK, text)))
        taken = jnp.take_along_axis(logp, text[..., None], axis=-1)[..., 0]
        return tuple(jnp.where(masked, -x.reshape(masked.shape), 0.0) for x in (taken, logp.max(-1)))

    return predict


def nll_of(texts):
    return lambda masked: predict_of(texts)(masked)[0]


def warped(masked):
    """Predictions of TEXT that fit no joint distribution: the bound is then not tight."""
    return nll_of(TEXT[None, None])(masked) * (1 + masked.sum(-1, keepdims=True))


def masks(words):
    """All sets of 1 ... `words` masked tokens, bool[1, 1, 3] each."""
    for size in range(1, words + 1):
        for chosen in itertools.combinations(range(words), size):
            masked = np.zeros((1, 1, 3), bool)
            masked[0, 0, list(chosen)] = True
            yield jnp.asarray(masked)


def enumerated(words, loss, interval=(0.0, 1.0)):
    """Minus the mean over ratios r of the interval of E[-log p of what Bernoulli(r) masks] / r, set by set."""
    low, high = interval
    ratios = low + (high - low) * (np.arange(4000) + 0.5) / 4000
    total = 0.0
    for masked in masks(words):
        size = int(masked.sum())
        total += np.mean(ratios ** (size - 1) * (1 - ratios) ** (words - size)) * float(loss(masked).sum())
    return -total
