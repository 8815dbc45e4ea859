"""An image encoder alone, as other libraries release them: features, and nothing that could be trained here."""

from collections.abc import Mapping

import jax

from mdc_jax.objectives import base
from mdc_jax.objectives.vision import Vision
from mdc_jax.scoring.score import Scorer


class ImageEncoder(Vision):
    """Encodes; it knows no captions, so `corrupt` and `loss` raise TypeError."""

    def init(self, key: jax.Array) -> base.Params:
        return {"encoder": self._init_encoder(key)}

    def corrupt(self, batch: Mapping[str, jax.Array], key: jax.Array) -> Mapping[str, jax.Array]:
        raise TypeError("an image encoder alone has no loss")

    def loss(self, params: base.Params, corrupted: Mapping[str, jax.Array]) -> tuple[jax.Array, base.Metrics]:
        raise TypeError("an image encoder alone has no loss")

    @property
    def scorers(self) -> Mapping[str, Scorer]:
        return {}

    def _text_flops(self, counts: base.TokenCounts, *, training: bool) -> float:
        return 0.0
