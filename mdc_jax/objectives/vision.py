"""What all objectives share: a ViT whose tokens are the features.

Shapes: B images, N image tokens, D width.
"""

import abc
import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from mdc_jax.config import sections
from mdc_jax.models import vit
from mdc_jax.objectives import base, sizes
from mdc_jax.ops.cross_entropy import Split


class Vision(base.Objective):
    def __init__(self, *, model: sections.Model, image: sections.Image, split: Split | None) -> None:
        self.image = image
        self.class_token = model.encoder.class_token
        self.encoder_sizes = sizes.encoder_sizes(model.encoder)
        self.tokens = vit.num_tokens(self.encoder_sizes, image.size, self.class_token)
        self.patches = self.tokens - self.class_token
        self.kept_patches = max(round(model.encoder.token_keep * self.patches), 1)
        self.kept_tokens = self.kept_patches + self.class_token  # what the encoder returns in training
        self.encoder = vit.ViT(
            **dataclasses.asdict(self.encoder_sizes),
            position=model.encoder.position,
            position_std=model.encoder.position_std,
            patch_norm=model.encoder.patch_norm,
            class_token=model.encoder.class_token,
            exact_gelu=model.encoder.gelu == "exact",
            epsilon=model.encoder.layer_norm_epsilon,
            **sizes.computation(model, split),
        )

    def encode(self, params: base.Params, images: jax.Array) -> base.Features:
        tokens, intermediates = self._encode(params, images)
        tokens = tokens.astype(jnp.float32)
        layers = {name: intermediates[name].astype(jnp.float32) for name in ("stem", "blocks")}
        return {"tokens": tokens, "pooled": tokens.mean(1), **layers}

    def thin(self, corrupted: Mapping[str, jax.Array], key: jax.Array) -> Mapping[str, jax.Array]:
        """See `Objective.thin`; adds `patches` i32[B, any number], those that are encoded."""
        if self.kept_patches == self.patches:
            return corrupted
        return {**corrupted, "patches": random_subsets(key, len(corrupted["image"]), self.patches, self.kept_patches)}

    def encoder_flops(self) -> float:
        """Of `flops`, those of encoding an image."""
        return sum(vit.flops(self.encoder_sizes, self.image.size, self.class_token, self.patches))

    def flops(
        self, captions_per_image: int = 1, predicted_tokens: float | None = None, text_tokens: float | None = None
    ) -> Mapping[str, float]:
        counts = base.TokenCounts(captions_per_image, predicted_tokens, text_tokens)

        def forward(kept: int, training: bool) -> tuple[float, float]:
            patch, blocks = vit.flops(self.encoder_sizes, self.image.size, self.class_token, kept)
            return patch + blocks + self._text_flops(counts, training=training), patch

        whole, _ = forward(self.patches, False)
        thinned, patch = forward(self.kept_patches, True)
        # The backward pass is twice the forward, but nobody asks for the gradient of the pixels.
        return {"forward": whole, "train": 3 * thinned - patch}

    @abc.abstractmethod
    def _text_flops(self, counts: base.TokenCounts, *, training: bool) -> float:
        """Of the forward pass of what is not the image encoder, for one image; see `Objective.flops`."""

    def _init_encoder(self, key: jax.Array) -> base.Params:
        return self.encoder.init(key, jnp.zeros((1, self.image.size, self.image.size, 3)))["params"]

    def _encode(
        self, params: base.Params, images: jax.Array, kept: jax.Array | None = None
    ) -> tuple[jax.Array, Mapping[str, jax.Array]]:
        mean, std = (np.asarray(value, np.float32)[None, None, None] for value in (self.image.mean, self.image.std))
        return self.encoder.apply({"params": params["encoder"]}, (images.astype(jnp.float32) - mean) / std, kept)


def random_subsets(key: jax.Array, batch: int, total: int, size: int) -> jax.Array:
    """Draws `size` of `total` indices without replacement, i32[batch, size]."""
    return jnp.argsort(jax.random.uniform(key, (batch, total)), axis=1)[:, :size]
