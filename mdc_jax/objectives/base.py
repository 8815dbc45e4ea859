"""The contract between a training objective and everything else.

Trainer, evaluators and commands see only this; nothing outside `objectives/`
asks for an objective's name.

Shapes: B images, N image tokens, D width, C captions of an image, L tokens.
"""

import abc
import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mdc_jax.config import sections
from mdc_jax.scoring.score import Score as Score  # a part of this contract
from mdc_jax.scoring.score import Scorer

Params = Mapping[str, Any]
Features = Mapping[str, jax.Array]
Metrics = Mapping[str, jax.Array]


class TokenCounts(NamedTuple):
    """What decides how much text a step computes: see `Objective.flops`."""

    captions_per_image: int = 1
    predicted_tokens: float | None = None
    text_tokens: float | None = None


@functools.partial(jax.tree_util.register_dataclass, data_fields=("tokens", "log_prob", "step"), meta_fields=())
@dataclasses.dataclass(frozen=True)
class Caption:
    """One caption per image, and how it came about, [B, L] each."""

    tokens: jax.Array  # i32, EOS included, then PAD
    log_prob: jax.Array  # f32, untempered, of each token when it was set; 0 where none was, and at pads
    step: jax.Array  # i32, from 0, when each token was set; -1 for an EOS that was there before, and for pads


class Objective(abc.ABC):
    """A model together with its loss, its features and, where it has a decoder, its captions.

    Everything is pure: parameters in, arrays out; safe under `jax.jit`.
    """

    batch_keys: tuple[str, ...] = ("image", "text", "length", "_mask")  # of a batch, what training needs

    @abc.abstractmethod
    def init(self, key: jax.Array) -> Params:
        """Initialises the parameters, `{"encoder": ..., ...}`, all float32."""

    @abc.abstractmethod
    def corrupt(self, batch: Mapping[str, jax.Array], key: jax.Array) -> Mapping[str, jax.Array]:
        """Draws everything that is random in a step, over the whole global batch.

        Returns a batch (leading axis B throughout) that `loss` consumes. It includes `weight`
        f32[B], which is `_mask` divided by its sum: losses and metrics of slices of the batch
        then add up to those of the whole, unless rows are compared with each other.
        """

    def thin(self, corrupted: Mapping[str, jax.Array], key: jax.Array) -> Mapping[str, jax.Array]:
        """Chooses at random what training leaves out to be faster, and evaluation does not: image tokens."""
        return corrupted

    @abc.abstractmethod
    def loss(self, params: Params, corrupted: Mapping[str, jax.Array]) -> tuple[jax.Array, Metrics]:
        """Returns sum_b weight_b loss_b (a float32 scalar) and metrics that add up alike; see `divided_by_shares`."""

    def gradient(
        self, params: Params, corrupted: Mapping[str, jax.Array], micro_batches: int = 1
    ) -> tuple[Params, Metrics]:
        """Returns the gradient of `loss`, and the metrics with "loss" among them.

        The activations of one of `micro_batches` slices exist at a time; the result is the same for
        any number of them. This one adds up slices: an objective whose rows meet has its own.
        """

        def of(piece: Mapping[str, jax.Array]) -> tuple[Params, Metrics]:
            (loss, metrics), grads = jax.value_and_grad(self.loss, has_aux=True)(params, piece)
            return grads, {**metrics, "loss": loss}

        if micro_batches == 1:
            return of(corrupted)
        pieces = cut_up(corrupted, micro_batches)
        shapes = jax.eval_shape(of, jax.tree.map(lambda x: x[0], pieces))
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        total, _ = jax.lax.scan(lambda total, piece: (jax.tree.map(jnp.add, total, of(piece)), None), zeros, pieces)
        return total

    @abc.abstractmethod
    def encode(self, params: Params, images: jax.Array) -> Features:
        """Encodes u8[B, H, W, 3].

        Returns `tokens` f32[B, N, D] after the final LayerNorm, `pooled` f32[B, D] (their mean),
        `stem` f32[B, N, D], what enters the first block, and `blocks` f32[depth, B, N, D], what leaves
        each. What is not used is not computed under `jax.jit`.
        """

    @property
    @abc.abstractmethod
    def scorers(self) -> Mapping[str, Scorer]:
        """Name → (params, features, {"text": i32[B, C, L], "length": i32[B, C]}, key) → Score.

        `features` are those of `encode`, once per image whatever the number of captions, or of `null_features`; of
        one image, all B rows of captions look at it.
        """

    def embed_images(self, params: Params, features: Features) -> jax.Array | None:
        """Embeddings f32[B, E] whose products with those of texts are the only score; None where there are none."""
        return None

    def embed_texts(self, params: Params, captions: Mapping[str, jax.Array]) -> jax.Array | None:
        """Embeddings f32[..., E] of {"text": i32[..., L], "length": i32[...]}; see `embed_images`."""
        return None

    def null_features(self, params: Params, images: int) -> Features | None:
        """What stands for `images` images that are not seen, for `scorers`; None where training showed it never.

        See `mdc_jax/scoring/blind.py` for when that counts as blind.
        """
        return None

    def masked_losses(
        self,
        params: Params,
        features: Features,
        captions: Mapping[str, jax.Array],
        key: jax.Array,
        *,
        draws: int,
    ) -> tuple[jax.Array, jax.Array, jax.Array] | None:
        """How well masked tokens are predicted, by the share that is masked; None where there are no such shares.

        Draws masks whose shares cover (0, 1]. Returns nats of all masked tokens f32[B, C, draws], their
        number i32[B, C, draws], and the number that could be masked, i32[B, C].
        """
        return None

    def token_losses(
        self, params: Params, features: Features, captions: Mapping[str, jax.Array], key: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array] | None:
        """How well each token is predicted of texts that are shown as training shows them; None without a decoder.

        Returns -log p f32[B, T, L], which can be differentiated with respect to `features`, of the T texts that
        training makes of the C captions, text k C + c of caption c; where it is predicted, bool[B, T, L], and 0 nats
        elsewhere; and the share of a text's tokens that are predicted from the others at once, f32[B, T].
        """
        return None

    def generate(
        self,
        params: Params,
        features: Features,
        key: jax.Array,
        settings: sections.Decoding = sections.Decoding(),
        *,
        length: jax.Array | None = None,
    ) -> Caption | None:
        """Writes one caption per image; None without a decoder.

        Args:
          length: i32[B], of the captions in tokens, EOS included; None: as `settings.length` says.

        Raises ConfigError for settings that the objective cannot use.
        """
        return None

    def attention(self, params: Params, features: Features, caption: Caption) -> jax.Array | None:
        """Where in the image the prediction of each token looked when it was set; None without a decoder.

        Returns f32[B, L, patches], row by row of the image: the mean of the decoder's heads and layers. Guidance is
        left out, and so is what was there then and was masked and set again later.
        """
        return None

    def length_law(self, params: Params, features: Features) -> jax.Array | None:
        """log p(length | image) of lengths 1 ... L, f32[B, L]; None where the objective has no such law."""
        return None

    @abc.abstractmethod
    def flops(
        self, captions_per_image: int = 1, predicted_tokens: float | None = None, text_tokens: float | None = None
    ) -> Mapping[str, float]:
        """Floating-point operations of the matrix products per image: {"forward": ..., "train": ...}.

        `predicted_tokens`, the mean number of an image's tokens that have a loss, is the metric of that
        name where `loss` has one; None: all that could have one. `text_tokens` is the length of every text,
        pads included, and the metric of that name; None: `data.max_tokens`, as without `data.buckets`.
        """


def divided_by_shares(means: Mapping[str, float]) -> dict[str, float]:
    """Means of metrics over images as they are read, where some are not of every image.

    "<name>_images" is the share of the images that metric <name> is of, which is 0 for the others. Both add up over
    slices of a batch, and their means over batches are those over all images: the quotient comes last. It is NaN where
    there are no such images.
    """
    read = dict(means)
    for name in means:
        share = read.pop(f"{name}_images", None)
        if share is not None:
            read[name] = means[name] / share if share else math.nan
    return read


def cut_up(rows: Any, pieces: int) -> Any:
    """[B, ...] → [pieces, B / pieces, ...]: row i goes to piece i mod `pieces`, so that no row leaves its device."""
    return jax.tree.map(lambda x: x.reshape(-1, pieces, *x.shape[1:]).swapaxes(0, 1), rows)


def joined(pieces: Any) -> Any:
    """The inverse of `cut_up`."""
    return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), pieces)
