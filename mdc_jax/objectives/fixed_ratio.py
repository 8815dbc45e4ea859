"""Masked diffusion captioning at one masking ratio: masked language modelling, and parallel captioning.

Corruption, weights and loss are those of masked diffusion on the interval [r, r].

Shapes: B images, C captions of an image, L tokens.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mdc_jax.config import decoding as decoding_settings
from mdc_jax.config import sections
from mdc_jax.data.batch import EOS_ID, PAD_ID
from mdc_jax.objectives import base
from mdc_jax.objectives.masked import MaskedDiffusion
from mdc_jax.objectives.tokens import real_tokens
from mdc_jax.ops import cross_entropy
from mdc_jax.scoring.score import exact


class MaskedLM(MaskedDiffusion):
    """An image-conditioned masked language model; captions and scores visit ratios that it was not trained on."""

    def __init__(self, settings: sections.MaskedLM, **sizes: Any) -> None:
        fixed = sections.MaskedDiffusion(
            interval=(settings.ratio, settings.ratio),
            masks=settings.masks,
            masks_per_caption=settings.masks_per_caption,
            padding=settings.padding,
            null_image_rate=settings.null_image_rate,
        )
        super().__init__(fixed, **sizes)
        self.section = settings


class Parallel(MaskedDiffusion):
    """Every word from the image and its place alone (Pa of arXiv 2306.07915).

    Given the image and the length the words are independent: one pass writes a caption, and one pass
    gives its exact log-likelihood. Words that are visible, as the decoder never saw any, are never shown.
    """

    def __init__(self, settings: sections.Parallel, **sizes: Any) -> None:
        super().__init__(
            sections.MaskedDiffusion(interval=(1.0, 1.0), null_image_rate=settings.null_image_rate), **sizes
        )
        self.section = settings

    @property
    def scorers(self) -> Mapping[str, base.Scorer]:
        return {"parallel": self._log_likelihood}

    def generate(
        self,
        params: base.Params,
        features: base.Features,
        key: jax.Array,
        settings: sections.Decoding = sections.Decoding(),
        *,
        length: jax.Array | None = None,
    ) -> base.Caption:
        """Writes one caption per image in one pass: length and words are the likeliest at temperature 0, else draws."""
        decoding_settings.check(settings, self.section)
        at_once = dataclasses.replace(settings, steps=1, order="random")  # which of all words comes first is nothing
        return self._write(params, features["tokens"], key, at_once, length)

    def _shown(self, tokens: jax.Array, real: jax.Array, masked: jax.Array) -> jax.Array:
        """Nothing, the EOS that was placed neither."""
        return jnp.full_like(tokens, self.mask_id)

    def _log_likelihood(
        self, params: base.Params, features: base.Features, captions: Mapping[str, jax.Array], key: jax.Array
    ) -> base.Score:
        """log p(length | image) + sum of log p(word | length, image), no word being EOS or PAD; `key` is not used."""
        text, length = captions["text"], captions["length"]
        words = real_tokens(length - 1, self.max_tokens)
        hidden = self._all_masked(params, features["tokens"], text.shape[:2])
        head = self._head(params, (EOS_ID, PAD_ID))
        nll, _ = cross_entropy.cross_entropy(hidden, *head, jnp.where(words, text, PAD_ID), words, self.split)
        return exact(self._log_length(params, features, length) - nll.sum(-1))

    def masked_losses(self, *_: Any, **__: Any) -> None:
        """None: the decoder has seen no text of which a part is visible."""

    def _all_masked(self, params: base.Params, memory: jax.Array, texts: tuple[int, int]) -> jax.Array:
        """Hidden states [B, T, L, D] of B x T = `texts` of which nothing is visible, the length neither."""
        hidden = self._hidden(params, jnp.full((memory.shape[0], 1, self.max_tokens), self.mask_id), memory, None)
        return jnp.broadcast_to(hidden, (*texts, *hidden.shape[2:]))
