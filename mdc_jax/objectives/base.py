"""The contract between a training objective and everything else.

Trainer, evaluators and commands see only this; nothing outside `objectives/`
asks for an objective's name.

Shapes: B images, N image tokens, D width, C captions of an image, L tokens.
"""

import abc
import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax

Params = Mapping[str, Any]
Features = Mapping[str, jax.Array]
Metrics = Mapping[str, jax.Array]


@functools.partial(jax.tree_util.register_dataclass, data_fields=("value", "standard_error"), meta_fields=("kind",))
@dataclasses.dataclass(frozen=True)
class Score:
    """Log-probabilities in nats, f32[B, C] (or f32[B, C] similarities).

    `kind` says what `value` estimates: "exact", "bound" (a lower bound on the
    log-likelihood), or "heuristic". It is static, so that a compiled function can return a score.
    """

    value: jax.Array
    standard_error: jax.Array
    kind: str


Scorer = Callable[[Params, Features, Mapping[str, jax.Array], jax.Array], Score]


class Objective(abc.ABC):
    """A model together with its loss, its features and, where it has a decoder, its captions.

    Everything is pure: parameters in, arrays out; safe under `jax.jit`.
    """

    batch_keys: tuple[str, ...] = ("image", "text", "length", "_mask")  # of a batch, what training needs

    @abc.abstractmethod
    def init(self, key: jax.Array) -> Params:
        """Initialises the parameters, `{"encoder": ..., "decoder": ...}`, all float32."""

    @abc.abstractmethod
    def corrupt(self, batch: Mapping[str, jax.Array], key: jax.Array) -> Mapping[str, jax.Array]:
        """Draws everything that is random in a step, over the whole global batch.

        Returns a batch (leading axis B throughout) that `loss` consumes. It includes `weight`
        f32[B], which is `_mask` divided by its sum: losses and metrics of slices of the batch
        then add up to those of the whole, so that accumulation and the number of devices change
        nothing.
        """

    def thin(self, corrupted: Mapping[str, jax.Array], key: jax.Array) -> Mapping[str, jax.Array]:
        """Chooses at random what training leaves out to be faster, and evaluation does not: image tokens."""
        return corrupted

    @abc.abstractmethod
    def loss(self, params: Params, corrupted: Mapping[str, jax.Array]) -> tuple[jax.Array, Metrics]:
        """Returns sum_b weight_b loss_b (a float32 scalar) and metrics that add up likewise."""

    @abc.abstractmethod
    def encode(self, params: Params, images: jax.Array) -> Features:
        """Encodes u8[B, H, W, 3].

        Returns `tokens` f32[B, N, D] after the final LayerNorm, `pooled` f32[B, D] (their mean)
        and `blocks` f32[depth, B, N, D]. What is not used is not computed under `jax.jit`.
        """

    @property
    @abc.abstractmethod
    def scorers(self) -> Mapping[str, Scorer]:
        """Name → (params, features, {"text": i32[B, C, L], "length": i32[B, C]}, key) → Score."""

    def generate(
        self, params: Params, features: Features, key: jax.Array, *, temperature: float = 0.0
    ) -> jax.Array | None:
        """Writes one caption per image, i32[B, L], EOS included, then PAD; None without a decoder."""
        return None

    @abc.abstractmethod
    def flops(self, captions_per_image: int = 1, predicted_tokens: float | None = None) -> Mapping[str, float]:
        """Floating-point operations of the matrix products per image: {"forward": ..., "train": ...}.

        `predicted_tokens`, the mean number of an image's tokens that have a loss, is the metric of that
        name where `loss` has one; None: all that could have one.
        """
