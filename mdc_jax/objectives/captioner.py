"""What objectives that write captions share: a ViT, a text decoder that looks at its tokens, one loss.

Subclasses say what the decoder is shown and what each prediction weighs.

Shapes: B images, C captions of an image, T texts of an image that the decoder reads at once, L
tokens, N image tokens, D width, V vocabulary.
"""

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mdc_jax.config import sections
from mdc_jax.models import text_decoder, vit
from mdc_jax.objectives import base
from mdc_jax.ops import cross_entropy


class Captioner(base.Objective):
    def __init__(
        self,
        settings: sections.MaskedDiffusion | sections.Autoregressive,
        *,
        model: sections.Model,
        image: sections.Image,
        vocab_size: int,
        max_tokens: int,
        split: cross_entropy.Split | None = None,
    ):
        self.settings, self.image, self.split = settings, image, split
        self.vocab_size, self.max_tokens = vocab_size, max_tokens
        self.mask_id = vocab_size  # the input-only row of the embedding
        self.class_token = model.encoder.class_token
        self.encoder_sizes, self.decoder_sizes = encoder_sizes(model.encoder), decoder_sizes(model)
        self.patches = vit.num_tokens(self.encoder_sizes, image.size)
        self.kept_patches = max(round(model.encoder.token_keep * self.patches), 1)
        self.kept_memory = max(round(model.decoder.memory_keep * (self.kept_patches + self.class_token)), 1)
        shared: dict[str, Any] = {"dtype": jnp.dtype(model.dtype), "scan": model.scan, "remat": model.remat}
        self.encoder = vit.ViT(
            **dataclasses.asdict(self.encoder_sizes),
            position=model.encoder.position,
            position_std=model.encoder.position_std,
            patch_norm=model.encoder.patch_norm,
            class_token=model.encoder.class_token,
            exact_gelu=model.encoder.gelu == "exact",
            epsilon=model.encoder.layer_norm_epsilon,
            **shared,
        )
        self.decoder = text_decoder.TextDecoder(
            vocab_size, max_tokens, **self.decoder_sizes, embedding_std=model.decoder.embedding_std, **shared
        )

    def init(self, key: jax.Array) -> base.Params:
        encoder_key, decoder_key = jax.random.split(key)
        images = jnp.zeros((1, self.image.size, self.image.size, 3))
        encoder = self.encoder.init(encoder_key, images)["params"]
        tokens = vit.num_tokens(self.encoder_sizes, self.image.size, self.class_token)
        memory = jnp.zeros((1, tokens, self.encoder_sizes.width))
        texts = jnp.zeros((1, 1, self.max_tokens), jnp.int32)
        return {"encoder": encoder, "decoder": self.decoder.init(decoder_key, texts, memory)["params"]}

    @property
    @abc.abstractmethod
    def texts_per_caption(self) -> int:
        """Texts that the decoder reads in training for each caption."""

    @abc.abstractmethod
    def corrupt_text(self, text: jax.Array, length: jax.Array, key: jax.Array) -> Mapping[str, jax.Array]:
        """Draws what the decoder is shown.

        Args:
          text: i32[B, C, L].
          length: i32[B, C].

        Returns `inputs` i32[B, T, L]; `targets` i32[B, T, L]; `predicted` bool[B, T, L], where there is
        a loss; `token_weight` f32[B, T], what each predicted token of a text weighs, normalised by
        the caption's tokens and 0 for missing captions; and what `attention_mask` and `metrics` need.
        """

    @abc.abstractmethod
    def attention_mask(self, corrupted: Mapping[str, jax.Array]) -> jax.Array | None:
        """The decoder's self-attention mask, as `TextDecoder` takes it."""

    def metrics(self, corrupted: Mapping[str, jax.Array]) -> base.Metrics:
        """Metrics of the corruption, weighted by `weight`."""
        return {}

    def corrupt(self, batch: Mapping[str, jax.Array], key: jax.Array) -> Mapping[str, jax.Array]:
        """See `Objective.corrupt`; an example without captions counts as one whose `_mask` is false."""
        text_key, null_key = jax.random.split(key)
        length = batch["length"]
        corrupted = dict(self.corrupt_text(batch["text"], length, text_key))
        # The loss of an image is the mean over its captions, and over the texts of a caption.
        captions = jnp.maximum((length > 0).sum(1), 1).astype(jnp.float32)
        corrupted["token_weight"] /= captions[:, None] * self.texts_per_caption
        valid = batch["_mask"] & (length > 0).any(1)
        corrupted["weight"] = valid / jnp.maximum(valid.sum(), 1).astype(jnp.float32)
        corrupted["null_image"] = jax.random.bernoulli(null_key, self.settings.null_image_rate, valid.shape)
        return {**corrupted, "image": batch["image"]}

    def thin(self, corrupted: Mapping[str, jax.Array], key: jax.Array) -> Mapping[str, jax.Array]:
        """See `Objective.thin`; adds `patches`, that are encoded, and `memory`, image tokens that are looked at."""
        encoder_key, decoder_key = jax.random.split(key)
        batch, tokens = corrupted["image"].shape[0], self.kept_patches + self.class_token
        chosen = {}
        if self.kept_patches < self.patches:
            chosen["patches"] = random_subsets(encoder_key, batch, self.patches, self.kept_patches)
        if self.kept_memory < tokens:
            chosen["memory"] = random_subsets(decoder_key, batch, tokens, self.kept_memory)
        return {**corrupted, **chosen}

    def loss(self, params: base.Params, corrupted: Mapping[str, jax.Array]) -> tuple[jax.Array, base.Metrics]:
        memory, _ = self._encode(params, corrupted["image"], corrupted.get("patches"))
        if "memory" in corrupted:
            memory = jnp.take_along_axis(memory, corrupted["memory"][..., None], axis=1)
        mask = self.attention_mask(corrupted)
        hidden = self._hidden(params, corrupted["inputs"], memory, mask, corrupted["null_image"])
        predicted, weight = corrupted["predicted"], corrupted["weight"]
        token_weight = (weight[:, None] * corrupted["token_weight"])[..., None] * predicted
        loss, right = self.weighted_loss(hidden, *self._head(params), corrupted["targets"], token_weight)
        tokens = predicted.sum((1, 2))
        metrics = {
            "accuracy": jnp.sum(weight * right.sum((1, 2)) / jnp.maximum(tokens, 1)),
            "predicted_tokens": jnp.sum(weight * tokens),
        }
        return loss, {**metrics, **self.metrics(corrupted)}

    def weighted_loss(self, *arguments: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Sums weighted losses over tokens; see `weighted_cross_entropy`, whose arguments but the last it takes."""
        return cross_entropy.weighted_cross_entropy(*arguments, self.split)

    def encode(self, params: base.Params, images: jax.Array) -> base.Features:
        tokens, intermediates = self._encode(params, images)
        tokens = tokens.astype(jnp.float32)
        return {"tokens": tokens, "pooled": tokens.mean(1), "blocks": intermediates["blocks"].astype(jnp.float32)}

    def flops(self, captions_per_image: int = 1, predicted_tokens: float | None = None) -> Mapping[str, float]:
        def forward(patches: int, memory_tokens: int) -> tuple[float, float]:
            patch, blocks = vit.flops(self.encoder_sizes, self.image.size, self.class_token, patches)
            decoder = text_decoder.flops(
                **{key: size for key, size in self.decoder_sizes.items() if key != "heads"},
                vocab_size=self.vocab_size,
                memory_width=self.encoder_sizes.width,
                memory_tokens=memory_tokens,
                length=self.max_tokens,
                texts=captions_per_image * self.texts_per_caption,
                predicted=predicted_tokens,
            )
            return patch + blocks + decoder, patch

        whole, _ = forward(self.patches, self.patches + self.class_token)
        thinned, patch = forward(self.kept_patches, self.kept_memory)
        # The backward pass is twice the forward, but nobody asks for the gradient of the pixels.
        return {"forward": whole, "train": 3 * thinned - patch}

    def _encode(
        self, params: base.Params, images: jax.Array, kept: jax.Array | None = None
    ) -> tuple[jax.Array, Mapping[str, jax.Array]]:
        mean, std = (np.asarray(value, np.float32)[None, None, None] for value in (self.image.mean, self.image.std))
        return self.encoder.apply({"params": params["encoder"]}, (images.astype(jnp.float32) - mean) / std, kept)

    def _hidden(
        self,
        params: base.Params,
        tokens: jax.Array,
        memory: jax.Array,
        mask: jax.Array | None,
        null: jax.Array | None = None,
    ) -> jax.Array:
        """[B, T, L] and [B, N, D] → hidden states [B, T, L, D]."""
        return self.decoder.apply({"params": params["decoder"]}, tokens, memory, mask, null)

    def _logits(self, params: base.Params, hidden: jax.Array, forbidden: Sequence[int] = ()) -> jax.Array:
        """[..., D] → f32[..., V], -inf for `forbidden` tokens."""
        return cross_entropy.logits(hidden, *self._head(params, forbidden))

    def _head(self, params: base.Params, forbidden: Sequence[int] = ()) -> tuple[jax.Array, jax.Array]:
        """Kernel and bias of the output layer; a bias of -inf forbids a token."""
        head = params["decoder"]["head"]
        bias = head["bias"]
        for token in forbidden:
            bias = bias.at[token].set(-jnp.inf)
        return head["kernel"], bias


def random_subsets(key: jax.Array, batch: int, total: int, size: int) -> jax.Array:
    """Draws `size` of `total` indices without replacement, i32[batch, size]."""
    return jnp.argsort(jax.random.uniform(key, (batch, total)), axis=1)[:, :size]


def encoder_sizes(section: sections.Encoder) -> vit.Sizes:
    """The variant's sizes, with those that are given put in their place."""
    given = {name: getattr(section, name) for name in ("patch", "width", "depth", "heads", "mlp_dim")}
    return dataclasses.replace(vit.sizes(section.variant), **{name: size for name, size in given.items() if size})


def decoder_sizes(model: sections.Model) -> dict[str, int]:
    """The encoder's sizes at half its depth, with those that are given put in their place."""
    encoder = encoder_sizes(model.encoder)
    default = {
        "width": encoder.width,
        "depth": max(encoder.depth // 2, 1),
        "heads": encoder.heads,
        "mlp_dim": encoder.mlp_dim,
    }
    return {name: getattr(model.decoder, name) or size for name, size in default.items()}


def real_tokens(length: jax.Array, max_tokens: int) -> jax.Array:
    """Which of L tokens are no pads, bool[..., L], in texts of `length` i32[...] tokens."""
    return jax.lax.broadcasted_iota(jnp.int32, (*length.shape, max_tokens), length.ndim) < length[..., None]
