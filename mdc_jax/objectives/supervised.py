"""Labels instead of captions: what an encoder of this size learns when it is told, the ceiling of a table of probes.

A linear head for each family of labels reads what probes read: the mean of the image's tokens, and of a bound family,
which says where things are, all tokens one after the other. The loss of an image is the negative
log-likelihood of its labels in nats, as that of the probes: a yes or no for each name of a presence, one of the names
of a class, nothing where a class does not apply (-1).

Shapes: B images, N image tokens, D width, K names of a family.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax

from mdc_jax.config import sections
from mdc_jax.data.batch import LABEL_PREFIX
from mdc_jax.objectives import base
from mdc_jax.objectives.vision import Vision
from mdc_jax.ops.cross_entropy import Split
from mdc_jax.scoring.score import Scorer


class Supervised(Vision):
    def __init__(
        self,
        settings: sections.Supervised,
        *,
        model: sections.Model,
        image: sections.Image,
        vocab_size: int,
        max_tokens: int,
        split: Split | None = None,
    ) -> None:
        """Takes what all take, but reads no captions. Raises ValueError for families that cannot be learned."""
        super().__init__(model=model, image=image, split=split)
        if not settings.families:
            raise ValueError(
                "objective.families is empty: training takes those of data.train, and where that is not read they are "
                "given by name, kind, number of names and whether they are bound, as in "
                '(("shape", "presence", 4, False),)'
            )
        self.kinds = {name: kind for name, kind, _, _ in settings.families}
        self.bound = {name: bound for name, _, _, bound in settings.families}
        if any(self.bound.values()) and self.kept_patches < self.patches:
            raise ValueError(
                "bound label families are read from all tokens: set model.encoder.token_keep=1, or name in "
                "objective.families those that are not bound"
            )
        width = self.encoder_sizes.width
        self.heads = {
            name: (width * (self.tokens if bound else 1), count) for name, _, count, bound in settings.families
        }
        self.batch_keys = ("image", "_mask", *(LABEL_PREFIX + name for name in self.kinds))

    def init(self, key: jax.Array) -> base.Params:
        # Zeros, as of the decoders' heads: every label is as likely as another at first.
        heads = {name: {"kernel": jnp.zeros(shape), "bias": jnp.zeros(shape[1])} for name, shape in self.heads.items()}
        return {"encoder": self._init_encoder(key), "heads": heads}

    def corrupt(self, batch: Mapping[str, jax.Array], key: jax.Array) -> Mapping[str, jax.Array]:
        """See `Objective.corrupt`; nothing is random."""
        labels = {LABEL_PREFIX + name: batch[LABEL_PREFIX + name] for name in self.kinds}
        weight = batch["_mask"] / jnp.maximum(batch["_mask"].sum(), 1).astype(jnp.float32)
        return {"image": batch["image"], **labels, "weight": weight}

    def loss(self, params: base.Params, corrupted: Mapping[str, jax.Array]) -> tuple[jax.Array, base.Metrics]:
        """See `Objective.loss`; the metrics are the parts of it by family."""
        tokens, _ = self._encode(params, corrupted["image"], corrupted.get("patches"))
        tokens = tokens.astype(jnp.float32)
        pooled, flattened = tokens.mean(1), tokens.reshape(len(tokens), -1)
        parts = {}
        for name, kind in self.kinds.items():
            head, label = params["heads"][name], corrupted[LABEL_PREFIX + name]
            logits = (flattened if self.bound[name] else pooled) @ head["kernel"] + head["bias"][None]
            nats = _negative_log_likelihood(logits, label, kind)
            parts[name] = jnp.sum(corrupted["weight"] * nats)
        return sum(parts.values()), parts

    @property
    def scorers(self) -> Mapping[str, Scorer]:
        return {}

    def _text_flops(self, counts: base.TokenCounts, *, training: bool) -> float:
        return 2.0 * sum(inputs * names for inputs, names in self.heads.values())


def _negative_log_likelihood(logits: jax.Array, label: jax.Array, kind: str) -> jax.Array:
    """In nats, f32[B], of labels u8[B, K] of presence or i32[B] of a class, where -1 costs nothing."""
    if kind == "presence":
        return optax.sigmoid_binary_cross_entropy(logits, label.astype(jnp.float32)).sum(-1)
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(label, 0))
    return jnp.where(label >= 0, nats, 0.0)
