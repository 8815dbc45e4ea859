"""CapPa (arXiv 2306.07915): an example is captioned in parallel or from left to right, by the same decoder.

Shapes: B images, C captions of an image, L tokens.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mdc_jax.config import sections
from mdc_jax.objectives import base
from mdc_jax.objectives.autoregressive import Autoregressive
from mdc_jax.objectives.fixed_ratio import Parallel


class CapPa(Autoregressive):
    """Captions from left to right and scores both ways; the mode is drawn for each example, not for each caption."""

    settings: sections.CapPa
    reversed = False

    def __init__(self, settings: sections.CapPa, **sizes: Any) -> None:
        super().__init__(settings, **sizes)
        self._parallel = Parallel(sections.Parallel(), **sizes)

    def corrupt_text(self, text: jax.Array, length: jax.Array, key: jax.Array) -> Mapping[str, jax.Array]:
        """See `Captioner`. Both modes predict the same tokens with the same weights: they differ in what is shown."""
        from_left = super().corrupt_text(text, length, key)
        parallel = jax.random.bernoulli(key, self.settings.parallel_share, text.shape[:1])
        inputs = jnp.where(parallel[:, None, None], self.mask_id, from_left["inputs"])
        return {**from_left, "inputs": inputs, "parallel": parallel}

    def attention_mask(self, corrupted: Mapping[str, jax.Array]) -> jax.Array:
        return corrupted["parallel"][:, None, None, None] | self._causal(corrupted["inputs"].shape[-1])

    def metrics(self, corrupted: Mapping[str, jax.Array]) -> base.Metrics:
        return {"parallel_share": jnp.sum(corrupted["weight"] * corrupted["parallel"])}

    @property
    def scorers(self) -> Mapping[str, base.Scorer]:
        return {**super().scorers, **self._parallel.scorers}
