"""Masked diffusion captioning (arXiv 2510.26799).

A share m(t) of a caption's tokens is masked; the decoder predicts them all at once from the rest
and from the image. `fixed_ratio.py` has the intervals [r, r], masked language models, and [1, 1],
parallel captioning.

Shapes: B images, C captions of an image, K masks of a caption, T = C K, L tokens, V vocabulary.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mdc_jax.config import decoding as decoding_settings
from mdc_jax.config import sections
from mdc_jax.data.batch import EOS_ID, PAD_ID
from mdc_jax.decoding import masked as decoding
from mdc_jax.decoding import sampling
from mdc_jax.decoding.guidance import guided
from mdc_jax.diffusion import corruption, schedules
from mdc_jax.models.layers import KeysValues
from mdc_jax.objectives import base
from mdc_jax.objectives.captioner import Captioner
from mdc_jax.objectives.tokens import lengths, real_tokens
from mdc_jax.ops import cross_entropy
from mdc_jax.scoring import length as length_law
from mdc_jax.scoring.alignment import aligned_positions
from mdc_jax.scoring.estimators import Estimator, Reading, masked_estimators
from mdc_jax.scoring.masked_share import by_masked_share


class MaskedDiffusion(Captioner):
    settings: sections.MaskedDiffusion

    def __init__(
        self, settings: sections.MaskedDiffusion, *, word_starts: Callable[[], np.ndarray] | None = None, **sizes: Any
    ) -> None:
        """Takes what `Captioner` takes, and which tokens of the vocabulary start a word, bool[V]; None: all do."""
        super().__init__(settings, **sizes)
        masks = corruption.MASKS[settings.masks]
        self._masks: Callable[[jax.Array], corruption.Masks] = lambda text: masks
        if settings.mask_words and word_starts:
            starts = word_starts()
            self._masks = lambda text: corruption.whole_words(masks, jnp.asarray(starts)[text])

    @property
    def texts_per_caption(self) -> int:
        return self.settings.masks_per_caption

    def corrupt_text(self, text: jax.Array, length: jax.Array, key: jax.Array) -> Mapping[str, jax.Array]:
        """See `Captioner`. A caption is normalised by the tokens that can be masked: with padding `target` by L."""
        settings = self.settings
        time_key, mask_key = jax.random.split(key)
        batch, captions, _ = text.shape
        # Text k C + c is mask k of caption c, so that the times of an image, and of a caption, span the interval.
        masks = settings.masks_per_caption
        text, length = jnp.tile(text, (1, masks, 1)), jnp.tile(length, (1, masks))

        times = corruption.low_discrepancy_times(time_key, batch, captions * masks)
        ratio, slope = schedules.ratio_and_slope(settings.schedule, settings.interval, times)
        real = real_tokens(length, text.shape[-1])
        targets = jnp.where(real, text, PAD_ID)
        maskable = corruption.maskable_tokens(real, settings.padding)
        if not settings.mask_eos:
            maskable &= targets != EOS_ID
        masked, weight = self._masks(targets)(mask_key, maskable, ratio)
        tokens = maskable.sum(-1)

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
        - `known`, and whatever else leaves no law of lengths (`mask_eos` false, `mask_words`):
          log p(words | length, image), which is not comparable with the others, nor for captions of different length.

        Single tokens are masked, also where training masks words.
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

        Raises ValueError unless the length is `hidden`: others have no such law.
        """
        if setting := self._lawless:
            raise ValueError(f"{setting} has no length law: give `length`, or train without it")
        return self._length_law(params, self._looks(params, features["tokens"], 0.0)[0])

    def generate(
        self,
        params: base.Params,
        features: base.Features,
        key: jax.Array,
        settings: sections.Decoding = sections.Decoding(),
        *,
        length: jax.Array | None = None,
    ) -> base.Caption:
        """See `Objective.generate`, and `mdc_jax/decoding/masked.py` for what the settings mean.

        EOS is placed first: at `length` i32[B], or where the model's own length law puts it, the mode at
        temperature 0, else a draw; its `log_prob` is then log p(length | image). With padding `target` pads
        are predicted like any other token and the first EOS ends the caption.
        """
        decoding_settings.check(settings, self.section)
        return self._write(params, features["tokens"], key, settings, length)

    def attention(self, params: base.Params, features: base.Features, caption: base.Caption) -> jax.Array:
        """See `Objective.attention`; given the tokens of earlier steps."""
        tokens = caption.tokens
        (image,) = self._looks(params, features["tokens"], 0.0)
        length = lengths(tokens)
        real, mask = real_tokens(length, self.max_tokens), self._attention_mask(length[:, None], self.max_tokens)

        def look(position: jax.Array) -> jax.Array:
            masked = caption.step >= caption.step[:, position, None]
            return self._watch(params, image, self._shown(tokens, real, masked), mask)[:, position]

        return jax.lax.map(look, jnp.arange(self.max_tokens)).swapaxes(0, 1)

    def _write(
        self,
        params: base.Params,
        memory: jax.Array,
        key: jax.Array,
        settings: sections.Decoding,
        length: jax.Array | None,
    ) -> base.Caption:
        length_key, key = jax.random.split(key)
        params = self._for_steps(params)
        looks = self._looks(params, memory, settings.guidance)
        size = (memory.shape[0], self.max_tokens)
        log_length = jnp.zeros(size[0])
        words_only = self.settings.padding != "target" or length is not None
        if length is None:
            decoding_settings.check_length(settings, self.section)
            if words_only:
                law = self._length_law(params, looks[0])
                length = 1 + sampling.choose(law, jax.random.split(length_key, size[0]), settings.temperature)
                log_length = jnp.take_along_axis(law, length[:, None] - 1, axis=1)[:, 0]
            else:
                length = jnp.full(size[0], self.max_tokens)
        masked = real_tokens(length - 1, self.max_tokens) if words_only else jnp.ones(size, bool)
        kernel, bias = self._head(params, (EOS_ID, PAD_ID) if words_only else ())
        real, shown = real_tokens(length, self.max_tokens), jnp.zeros(size, bool)

        def predict(tokens: jax.Array) -> jax.Array:
            texts, mask = self._shown(tokens, real, shown)[:, None], self._attention_mask(length[:, None], size[1])
            return guided(
                *(self._decode(params, texts, look, mask, method="read")[:, 0] for look in looks),
                weight=settings.guidance,
            )

        canvas = decoding.fill(
            predict,
            lambda hidden: cross_entropy.logits(hidden, kernel, bias),
            jnp.where(masked, self.mask_id, jnp.where(real, EOS_ID, PAD_ID)),
            masked,
            key,
            settings,
        )
        tokens = decoding.cut(canvas.tokens, eos_id=EOS_ID, pad_id=PAD_ID)
        gone = (tokens == PAD_ID) | (tokens != canvas.tokens)
        placed = jnp.where(tokens == EOS_ID, log_length[:, None], 0.0)
        log_prob = jnp.where(gone, 0.0, canvas.log_prob) + placed
        return base.Caption(tokens, log_prob, jnp.where(gone, -1, canvas.set_at))

    def _length_law(self, params: base.Params, image: KeysValues) -> jax.Array:
        """log p(length | image), f32[B, L], of images that `_looks` made ready."""
        canvas = jnp.full((image.keys.shape[1], 1, self.max_tokens), self.mask_id)
        hidden = self._decode(params, canvas, image, method="read")
        everywhere = jnp.ones(canvas.shape, bool)
        # Not split over devices, which may not divide the number of images.
        hazard, _ = cross_entropy.cross_entropy(hidden, *self._head(params), jnp.full_like(canvas, EOS_ID), everywhere)
        return length_law.log_lengths(-hazard[:, 0], self.settings.interval)

    def _reading(self, params: base.Params, features: base.Features, captions: Mapping[str, jax.Array]) -> Reading:
        text, length = captions["text"], captions["length"]
        real = real_tokens(length, self.max_tokens)
        targets = jnp.where(real, text, PAD_ID)
        if self.settings.padding == "target":
            maskable, forbidden = corruption.maskable_tokens(real, "target"), ()
        else:
            maskable, forbidden = real_tokens(length - 1, self.max_tokens), (EOS_ID, PAD_ID)

        # Once per image, however many masks an estimator draws.
        image = self._image_of_each(params, features["tokens"], len(text))
        mask = self._attention_mask(length, self.max_tokens)

        def predict(masked: jax.Array) -> tuple[jax.Array, jax.Array]:
            hidden = self._decode(params, self._shown(targets, real, masked), image, mask, method="read")
            return cross_entropy.with_likeliest(hidden, *self._head(params, forbidden), targets, masked, self.split)

        return Reading(predict, maskable, aligned_positions(targets, length))

    def _log_length(self, params: base.Params, features: base.Features, length: jax.Array) -> jax.Array:
        """log p(length | image), f32[B, C], of lengths i32[B, C] that are hidden; else 0, as for no caption."""
        if self._lawless:
            return jnp.zeros(length.shape)
        law = jnp.broadcast_to(self.length_law(params, features), (len(length), self.max_tokens))
        return jnp.where(length > 0, jnp.take_along_axis(law, jnp.maximum(length - 1, 0), axis=1), 0.0)

    @property
    def _lawless(self) -> str:
        """The setting for which there is no law of lengths; "" where there is one."""
        return decoding_settings.needs_length(self.settings) or (
            'padding="target"' if self.settings.padding == "target" else ""
        )

    def _shown(self, tokens: jax.Array, real: jax.Array, masked: jax.Array) -> jax.Array:
        """What the decoder reads: MASK where masked, and at pads unless they are tokens themselves."""
        visible = ~masked if self.settings.padding == "target" else ~masked & real
        return jnp.where(visible, tokens, self.mask_id)

    def _attention_mask(self, length: jax.Array, canvas: int) -> jax.Array | None:
        """Nobody attends to pads where the length is known; everybody to everything otherwise."""
        return real_tokens(length, canvas)[:, :, None] if self.settings.padding == "known" else None
