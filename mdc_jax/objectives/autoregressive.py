"""Autoregressive captioning (Cap of arXiv 2306.07915): each token from those before it and the image.

The decoder reads and writes texts in the order of the settings; everything outside sees them from left to right.

Shapes: B images, C captions of an image, L tokens, V vocabulary.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mdc_jax.config import ConfigError, sections
from mdc_jax.config import decoding as decoding_settings
from mdc_jax.data.batch import EOS_ID, PAD_ID
from mdc_jax.decoding import autoregressive as decoding
from mdc_jax.decoding.guidance import guided
from mdc_jax.models.layers import KeysValues
from mdc_jax.objectives import base
from mdc_jax.objectives.captioner import Captioner
from mdc_jax.objectives.tokens import lengths, real_tokens, words_reversed
from mdc_jax.ops import cross_entropy
from mdc_jax.scoring.score import exact


class Autoregressive(Captioner):
    @property
    def reversed(self) -> bool:
        """Whether the decoder reads the last word first."""
        return self.settings.order == "right_to_left"

    @property
    def texts_per_caption(self) -> int:
        return 1

    def corrupt_text(self, text: jax.Array, length: jax.Array, key: jax.Array) -> Mapping[str, jax.Array]:
        """See `Captioner`; nothing is random here."""
        real = real_tokens(length, text.shape[-1])
        targets = self._in_order(jnp.where(real, text, PAD_ID), length)
        return {
            "inputs": self._shifted(targets),
            "targets": targets,
            "predicted": real,
            "token_weight": (length > 0) / jnp.maximum(length, 1).astype(jnp.float32),
        }

    def attention_mask(self, corrupted: Mapping[str, jax.Array]) -> jax.Array:
        return self._causal(corrupted["inputs"].shape[-1])

    def token_losses(
        self, params: base.Params, features: base.Features, captions: Mapping[str, jax.Array], key: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        nll, predicted, share = super().token_losses(params, features, captions, key)
        return self._in_order(nll, captions["length"]), predicted, share

    @property
    def scorers(self) -> Mapping[str, base.Scorer]:
        return {"autoregressive": self._log_likelihood}

    def generate(
        self,
        params: base.Params,
        features: base.Features,
        key: jax.Array,
        settings: sections.Decoding = sections.Decoding(),
        *,
        length: jax.Array | None = None,
    ) -> base.Caption:
        """See `Objective.generate`: the likeliest token, or a draw, at each place, or the likeliest of some beams.

        Raises ConfigError for a given length, too: the caption ends where EOS is written.
        """
        decoding_settings.check(settings, self.section)
        if length is not None:
            raise ConfigError(f'the objective "{self.section.name}" ends captions itself: give no length')
        params = self._for_steps(params)
        looks = self._looks(params, features["tokens"], settings.guidance)
        head, shape = self._head(params), (len(features["tokens"]), settings.beams)

        def predict(tokens: jax.Array, position: jax.Array, before: Sequence[KeysValues]) -> tuple[jax.Array, Any]:
            found = [
                self._decode(params, tokens, look, own, position, method="extend")
                for look, own in zip(looks, before, strict=True)
            ]
            hidden = guided(*(hidden for hidden, _ in found), weight=settings.guidance)
            return cross_entropy.logits(hidden, *head), [own for _, own in found]

        start = [self._decode(params, *shape, method="nothing_before") for _ in looks]
        ends = {"start_id": self.mask_id, "eos_id": EOS_ID, "pad_id": PAD_ID}
        if settings.beams > 1:
            tokens, log_prob = decoding.search(predict, _of_beams, start, shape, self.max_tokens, **ends)
        else:
            tokens, log_prob = decoding.decode(predict, start, shape[0], self.max_tokens, key, settings, **ends)
        place = jnp.broadcast_to(jnp.arange(self.max_tokens)[None], tokens.shape)
        written = base.Caption(tokens, log_prob, jnp.where(tokens == PAD_ID, -1, place))
        length = lengths(tokens)
        return jax.tree.map(lambda x: self._in_order(x, length), written)

    def attention(self, params: base.Params, features: base.Features, caption: base.Caption) -> jax.Array:
        """See `Objective.attention`; given the tokens before each."""
        (image,) = self._looks(params, features["tokens"], 0.0)
        length = lengths(caption.tokens)
        texts = self._shifted(self._in_order(caption.tokens, length))
        weights = self._watch(params, image, texts, self._causal(self.max_tokens))
        return self._in_order(weights.swapaxes(1, 2), length[:, None]).swapaxes(1, 2)

    def _log_likelihood(
        self, params: base.Params, features: base.Features, captions: Mapping[str, jax.Array], key: jax.Array
    ) -> base.Score:
        """log p(text, length | image); `key` is not used."""
        real = real_tokens(captions["length"], self.max_tokens)
        targets = self._in_order(jnp.where(real, captions["text"], PAD_ID), captions["length"])
        image = self._image_of_each(params, features["tokens"], len(targets))
        hidden = self._decode(params, self._shifted(targets), image, self._causal(self.max_tokens), method="read")
        nll, _ = cross_entropy.cross_entropy(hidden, *self._head(params), targets, real, self.split)
        return exact(-nll.sum(-1))

    def _in_order(self, tokens: jax.Array, length: jax.Array) -> jax.Array:
        """[..., L] in the order in which the decoder reads, or back from it."""
        return words_reversed(tokens, length) if self.reversed else tokens

    def _shifted(self, tokens: jax.Array) -> jax.Array:
        """Moves i32[..., L] one to the right; the MASK row of the embedding starts a text."""
        start = jnp.full_like(tokens[..., :1], self.mask_id)
        return jnp.concatenate([start, tokens[..., :-1]], axis=-1)

    @staticmethod
    def _causal(length: int) -> jax.Array:
        """bool[1, 1, L, L] for L = length."""
        return jnp.tri(length, dtype=bool)[None, None]


def _of_beams(before: Sequence[KeysValues], chosen: jax.Array) -> Sequence[KeysValues]:
    """Keys and values [depth, B, K, ...] of the beams `chosen`, i32[B, K]."""
    return jax.tree.map(lambda x: jnp.take_along_axis(x, chosen[None, ..., None, None, None], axis=2), before)
