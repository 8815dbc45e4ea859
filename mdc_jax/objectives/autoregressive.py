"""Autoregressive captioning (Cap of arXiv 2306.07915): each token from those before it and the image.

Shapes: B images, C captions of an image, L tokens, V vocabulary.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from mdc_jax.data.batch import EOS_ID, PAD_ID
from mdc_jax.decoding import autoregressive as decoding
from mdc_jax.objectives import base
from mdc_jax.objectives.captioner import Captioner
from mdc_jax.objectives.tokens import real_tokens
from mdc_jax.ops import cross_entropy
from mdc_jax.scoring import autoregressive as scoring


class Autoregressive(Captioner):
    @property
    def texts_per_caption(self) -> int:
        return 1

    def corrupt_text(self, text: jax.Array, length: jax.Array, key: jax.Array) -> Mapping[str, jax.Array]:
        """See `Captioner`; nothing is random here."""
        real = real_tokens(length, text.shape[-1])
        targets = jnp.where(real, text, PAD_ID)
        return {
            "inputs": self._shifted(targets),
            "targets": targets,
            "predicted": real,
            "token_weight": (length > 0) / jnp.maximum(length, 1).astype(jnp.float32),
        }

    def attention_mask(self, corrupted: Mapping[str, jax.Array]) -> jax.Array:
        return self._causal(corrupted["inputs"].shape[-1])

    @property
    def scorers(self) -> Mapping[str, base.Scorer]:
        return {"autoregressive": self._log_likelihood}

    def generate(
        self, params: base.Params, features: base.Features, key: jax.Array, *, temperature: float = 0.0
    ) -> jax.Array:
        """Writes one caption per image: greedily at temperature 0, else by drawing every token."""
        memory = features["tokens"]

        def predict(tokens: jax.Array, position: jax.Array) -> jax.Array:
            hidden = self._hidden(params, self._shifted(tokens)[:, None], memory, self._causal(self.max_tokens))
            return self._logits(params, jax.lax.dynamic_index_in_dim(hidden[:, 0], position, axis=1, keepdims=False))

        return decoding.decode(
            predict, memory.shape[0], self.max_tokens, key, eos_id=EOS_ID, pad_id=PAD_ID, temperature=temperature
        )

    def _log_likelihood(
        self, params: base.Params, features: base.Features, captions: Mapping[str, jax.Array], key: jax.Array
    ) -> base.Score:
        """log p(text, length | image); `key` is not used."""
        real = real_tokens(captions["length"], self.max_tokens)
        targets = jnp.where(real, captions["text"], PAD_ID)
        hidden = self._hidden(params, self._shifted(targets), features["tokens"], self._causal(self.max_tokens))

        def nll(where: jax.Array) -> jax.Array:
            return cross_entropy.cross_entropy(hidden, *self._head(params), targets, where, self.split)[0]

        return scoring.log_likelihood(nll, real)

    def _shifted(self, tokens: jax.Array) -> jax.Array:
        """Moves i32[..., L] one to the right; the MASK row of the embedding starts a text."""
        start = jnp.full_like(tokens[..., :1], self.mask_id)
        return jnp.concatenate([start, tokens[..., :-1]], axis=-1)

    @staticmethod
    def _causal(length: int) -> jax.Array:
        """bool[1, 1, L, L] for L = length."""
        return jnp.tri(length, dtype=bool)[None, None]
