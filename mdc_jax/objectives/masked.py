"""Masked diffusion captioning (arXiv 2510.26799).

A share m(t) of a caption's tokens is masked; the decoder predicts them all at once from the rest
and from the image. `fixed_ratio.py` has the intervals [r, r], masked language models, and [1, 1],
parallel captioning.

Shapes: B images, C captions of an image, K masks of a caption, T = C K, L tokens, V vocabulary.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from mdc_jax.config import sections
from mdc_jax.data.batch import EOS_ID, PAD_ID
from mdc_jax.decoding import masked as decoding
from mdc_jax.diffusion import corruption, schedules
from mdc_jax.objectives import base
from mdc_jax.objectives.captioner import Captioner
from mdc_jax.objectives.tokens import real_tokens
from mdc_jax.ops import cross_entropy
from mdc_jax.scoring import length as length_law
from mdc_jax.scoring.alignment import aligned_positions
from mdc_jax.scoring.estimators import Estimator, Reading, masked_estimators
from mdc_jax.scoring.masked_share import by_masked_share


class MaskedDiffusion(Captioner):
    settings: sections.MaskedDiffusion

    @property
    def texts_per_caption(self) -> int:
        return self.settings.masks_per_caption

    def corrupt_text(self, text: jax.Array, length: jax.Array, key: jax.Array) -> Mapping[str, jax.Array]:
        """See `Captioner`. With padding `target` a caption is normalised by L, the tokens it then has."""
        settings = self.settings
        time_key, mask_key = jax.random.split(key)
        batch, captions, _ = text.shape
        # Text k C + c is mask k of caption c, so that the times of an image, and of a caption, span the interval.
        masks = settings.masks_per_caption
        text, length = jnp.tile(text, (1, masks, 1)), jnp.tile(length, (1, masks))

        times = corruption.low_discrepancy_times(time_key, batch, captions * masks)
        ratio, slope = schedules.ratio_and_slope(settings.schedule, settings.interval, times)
        real = real_tokens(length, text.shape[-1])
        maskable = corruption.maskable_tokens(real, settings.padding)
        masked, weight = corruption.MASKS[settings.masks](mask_key, maskable, ratio)
        tokens = maskable.sum(-1)

        targets = jnp.where(real, text, PAD_ID)
        present = jnp.maximum((tokens > 0).sum(1), 1)
        return {
            "inputs": self._shown(targets, real, masked),
            "targets": targets,
            "predicted": masked,
            "token_weight": slope * weight * (tokens > 0) / jnp.maximum(tokens, 1),
            "masked_share": (masked.sum(-1) / jnp.maximum(tokens, 1)).sum(1) / present,
            "length": length,
        }

    def attention_mask(self, corrupted: Mapping[str, jax.Array]) -> jax.Array | None:
        return self._attention_mask(corrupted["length"], corrupted["inputs"].shape[-1])

    def metrics(self, corrupted: Mapping[str, jax.Array]) -> base.Metrics:
        return {"masked_share": jnp.sum(corrupted["weight"] * corrupted["masked_share"])}

    @property
    def scorers(self) -> Mapping[str, base.Scorer]:
        """By estimator, see `masked_estimators`; each of what the padding policy defines:

        - `hidden`: log p(text | image) = log p(length | image), exact, + log p(words | length, image),
          where EOS is visible and no word can be EOS or PAD.
        - `target`: log p(text and pads | image).
        - `known`: log p(words | length, image), which is not comparable with the others, nor for
          captions of different length.
        """
        return {name: self.scorer(found) for name, found in masked_estimators(self.settings.interval).items()}

    def scorer(self, estimator: Estimator) -> base.Scorer:
        """The scorer of an estimator of the masked tokens, to whose score it adds that of the length."""

        def score(
            params: base.Params, features: base.Features, captions: Mapping[str, jax.Array], key: jax.Array
        ) -> base.Score:
            found = estimator(self._reading(params, features, captions), key)
            return found.plus(self._log_length(params, features, captions["length"]))

        return score

    def masked_losses(
        self,
        params: base.Params,
        features: base.Features,
        captions: Mapping[str, jax.Array],
        key: jax.Array,
        *,
        draws: int,
    ) -> tuple[jax.Array, jax.Array, jax.Array] | None:
        """See `Objective.masked_losses`; of the tokens that `scorers` mask."""
        read = self._reading(params, features, captions)
        return *by_masked_share(read.nll, read.maskable, key, draws=draws), read.maskable.sum(-1)

    def length_law(self, params: base.Params, features: base.Features) -> jax.Array:
        """log p(length | image) of lengths 1 ... L, f32[B, L], read off the all-masked state.

        Raises ValueError unless the padding is `hidden`: the others have no such law.
        """
        settings = self.settings
        if settings.padding != "hidden":
            raise ValueError(
                f'padding="{settings.padding}" has no length law: give `length`, or set objective.padding="hidden"'
            )
        canvas = jnp.full((features["tokens"].shape[0], 1, self.max_tokens), self.mask_id)
        hidden = self._hidden(params, canvas, features["tokens"], None)[:, 0]
        hazard = jax.nn.log_softmax(self._logits(params, hidden))[..., EOS_ID]
        return length_law.log_lengths(hazard, settings.interval)

    def generate(
        self,
        params: base.Params,
        features: base.Features,
        key: jax.Array,
        *,
        temperature: float = 0.0,
        order: str = "confidence",
        length: jax.Array | None = None,
    ) -> jax.Array:
        """Writes one caption per image, one token per step: i32[B, L], EOS included, then PAD.

        EOS is placed first, at `length` i32[B], or where the model's own length law puts it: the mode
        at temperature 0, else a draw. With padding `target` pads are predicted like any other token
        and the first EOS ends the caption. See `mdc_jax/decoding/masked.py` for the order.

        Raises ValueError with padding `known` where no length is given.
        """
        length_key, key = jax.random.split(key)
        memory = features["tokens"]
        canvas = (memory.shape[0], self.max_tokens)
        if self.settings.padding == "target" and length is None:
            length = jnp.full(canvas[0], self.max_tokens)
            masked, forbidden = jnp.ones(canvas, bool), ()
        else:
            if length is None:
                length = 1 + decoding.choose(self.length_law(params, features), length_key, temperature)
            masked, forbidden = real_tokens(length - 1, self.max_tokens), (EOS_ID, PAD_ID)
        real = real_tokens(length, self.max_tokens)
        tokens = decoding.fill(
            lambda tokens: self._logits(
                params, self._read(params, memory, tokens[:, None], length[:, None])[:, 0], forbidden
            ),
            self._shown(jnp.where(real, EOS_ID, PAD_ID), real, masked),
            masked,
            key,
            temperature=temperature,
            order=order,
        )
        return decoding.cut(tokens, eos_id=EOS_ID, pad_id=PAD_ID)

    def _reading(self, params: base.Params, features: base.Features, captions: Mapping[str, jax.Array]) -> Reading:
        text, length = captions["text"], captions["length"]
        real = real_tokens(length, self.max_tokens)
        targets = jnp.where(real, text, PAD_ID)
        if self.settings.padding == "target":
            maskable, forbidden = corruption.maskable_tokens(real, "target"), ()
        else:
            maskable, forbidden = real_tokens(length - 1, self.max_tokens), (EOS_ID, PAD_ID)

        def predict(masked: jax.Array) -> tuple[jax.Array, jax.Array]:
            hidden = self._read(params, features["tokens"], self._shown(targets, real, masked), length)
            return cross_entropy.with_likeliest(hidden, *self._head(params, forbidden), targets, masked, self.split)

        return Reading(predict, maskable, aligned_positions(targets, length))

    def _log_length(self, params: base.Params, features: base.Features, length: jax.Array) -> jax.Array:
        """log p(length | image), f32[B, C], of lengths i32[B, C] that are hidden; else 0, as for no caption."""
        if self.settings.padding != "hidden":
            return jnp.zeros(length.shape)
        law = self.length_law(params, features)
        return jnp.where(length > 0, jnp.take_along_axis(law, jnp.maximum(length - 1, 0), axis=1), 0.0)

    def _shown(self, tokens: jax.Array, real: jax.Array, masked: jax.Array) -> jax.Array:
        """What the decoder reads: MASK where masked, and at pads unless they are tokens themselves."""
        visible = ~masked if self.settings.padding == "target" else ~masked & real
        return jnp.where(visible, tokens, self.mask_id)

    def _read(self, params: base.Params, memory: jax.Array, tokens: jax.Array, length: jax.Array) -> jax.Array:
        """Hidden states [B, T, L, D] of i32[B, T, L] with lengths i32[B, T]."""
        return self._hidden(params, tokens, memory, self._attention_mask(length, tokens.shape[-1]))

    def _attention_mask(self, length: jax.Array, canvas: int) -> jax.Array | None:
        """Nobody attends to pads where the length is known; everybody to everything otherwise."""
        return real_tokens(length, canvas)[:, :, None] if self.settings.padding == "known" else None
