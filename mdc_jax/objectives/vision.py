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


class Vision(base.Objective):
    def __init__(self, *, model: sections.Model, image: sections.Image) -> None:
        self.image = image
        self.class_token = model.encoder.class_token
        self.encoder_sizes = sizes.encoder_sizes(model.encoder)
        self.encoder = vit.ViT(
            **dataclasses.asdict(self.encoder_sizes),
            position=model.encoder.position,
            position_std=model.encoder.position_std,
            patch_norm=model.encoder.patch_norm,
            class_token=model.encoder.class_token,
            exact_gelu=model.encoder.gelu == "exact",
            epsilon=model.encoder.layer_norm_epsilon,
            **sizes.computation(model),
        )

    def encode(self, params: base.Params, images: jax.Array) -> base.Features:
        tokens, intermediates = self._encode(params, images)
        tokens = tokens.astype(jnp.float32)
        return {"tokens": tokens, "pooled": tokens.mean(1), "blocks": intermediates["blocks"].astype(jnp.float32)}

    def flops(self, captions_per_image: int = 1) -> Mapping[str, float]:
        patch, blocks = vit.flops(self.encoder_sizes, self.image.size, self.class_token)
        forward = patch + blocks + self._text_flops(captions_per_image)
        # The backward pass is twice the forward, but nobody asks for the gradient of the pixels.
        return {"forward": forward, "train": 3 * forward - patch}

    @abc.abstractmethod
    def _text_flops(self, captions_per_image: int) -> float:
        """Of the forward pass of what is not the image encoder, for one image."""

    def _init_encoder(self, key: jax.Array) -> base.Params:
        return self.encoder.init(key, jnp.zeros((1, self.image.size, self.image.size, 3)))["params"]

    def _encode(self, params: base.Params, images: jax.Array) -> tuple[jax.Array, Mapping[str, jax.Array]]:
        mean, std = (np.asarray(value, np.float32)[None, None, None] for value in (self.image.mean, self.image.std))
        return self.encoder.apply({"params": params["encoder"]}, (images.astype(jnp.float32) - mean) / std)
