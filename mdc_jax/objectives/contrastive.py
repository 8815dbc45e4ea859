"""CLIP and SigLIP: images and texts embedded apart, and compared with all others of the global batch.

Of an image with several captions a step reads one, drawn evenly.

Shapes: B images, C captions of an image, L tokens, D width, E width of an embedding (the image encoder's).
"""

import abc
import functools
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from mdc_jax.config import sections
from mdc_jax.data.batch import PAD_ID
from mdc_jax.models import text_encoder
from mdc_jax.objectives import base, sizes
from mdc_jax.objectives.tokens import real_tokens
from mdc_jax.objectives.vision import Vision
from mdc_jax.ops import contrastive
from mdc_jax.ops.cross_entropy import Split
from mdc_jax.scoring.score import exact

MAX_LOG_SCALE = math.log(100)  # CLIP's, for stable training


class Contrastive(Vision):
    def __init__(
        self,
        settings: sections.Clip | sections.SigLip,
        *,
        model: sections.Model,
        image: sections.Image,
        vocab_size: int,
        max_tokens: int,
        split: Split | None = None,
    ) -> None:
        """The loss is left to the compiler to split: of `split` the towers alone make use."""
        super().__init__(model=model, image=image, split=split)
        self.settings, self.max_tokens = settings, max_tokens
        self.text_sizes = sizes.text_encoder_sizes(model)
        self.text_encoder = text_encoder.TextEncoder(
            vocab_size,
            max_tokens,
            **self.text_sizes,
            embedding_std=model.text_encoder.embedding_std,
            **sizes.computation(model, split),
        )

    @property
    @abc.abstractmethod
    def initial(self) -> Mapping[str, float]:
        """The scalars that are learned beside the towers, with their initial values."""

    def scalars(self, params: base.Params) -> Mapping[str, jax.Array]:
        """Those of `initial`, f32[] each, as `compare` uses them."""
        return {name: params[name] for name in self.initial}

    @abc.abstractmethod
    def compare(
        self, params: base.Params, images: jax.Array, texts: jax.Array, rows: contrastive.Rows
    ) -> tuple[jax.Array, jax.Array]:
        """Loss and accuracy f32[] of embeddings f32[B, E]; see `mdc_jax/ops/contrastive.py`."""

    def init(self, key: jax.Array) -> base.Params:
        encoder_key, text_key, *projection_keys = jax.random.split(key, 4)
        tokens, length = jnp.zeros((1, self.max_tokens), jnp.int32), jnp.ones(1, jnp.int32)
        width = self.encoder_sizes.width
        project = jax.nn.initializers.lecun_normal()
        return {
            "encoder": self._init_encoder(encoder_key),
            "text_encoder": self.text_encoder.init(text_key, tokens, length)["params"],
            "projection": {
                "image": {"kernel": project(projection_keys[0], (width, width))},
                "text": {"kernel": project(projection_keys[1], (self.text_sizes["width"], width))},
            },
            **{name: jnp.asarray(value, jnp.float32) for name, value in self.initial.items()},
        }

    def corrupt(self, batch: Mapping[str, jax.Array], key: jax.Array) -> Mapping[str, jax.Array]:
        """See `Objective.corrupt`; an example without captions counts as one whose `_mask` is false."""
        present = batch["length"] > 0
        choice = jax.random.categorical(key, jnp.where(present, 0.0, -jnp.inf))
        length = jnp.take_along_axis(batch["length"], choice[:, None], axis=1)[:, 0]
        text = jnp.take_along_axis(batch["text"], choice[:, None, None], axis=1)[:, 0]
        text = jnp.where(real_tokens(length, text.shape[-1]), text, PAD_ID)
        count = len(text)
        valid = batch["_mask"] & present.any(1)
        return {
            "image": batch["image"],
            "text": text,
            "length": length,
            "row": jnp.arange(count),
            "group": equal_rows(text),
            "weight": valid / jnp.maximum(valid.sum(), 1).astype(jnp.float32),
        }

    def loss(self, params: base.Params, corrupted: Mapping[str, jax.Array]) -> tuple[jax.Array, base.Metrics]:
        """See `Objective.loss`. Rows are compared with each other: losses of slices do not add up."""
        return self._compare(params, self._embed(params, corrupted), corrupted)

    def gradient(
        self, params: base.Params, corrupted: Mapping[str, jax.Array], micro_batches: int = 1
    ) -> tuple[base.Params, base.Metrics]:
        """See `Objective.gradient`. Slices are embedded one by one, the embeddings of all are compared, and the
        backward pass embeds each slice again (GradCache, arXiv 2101.06983)."""
        if micro_batches == 1:
            return super().gradient(params, corrupted)

        def loss(params: base.Params) -> tuple[jax.Array, base.Metrics]:
            embed = jax.checkpoint(functools.partial(self._embed, params))
            embedded = base.joined(jax.lax.map(embed, base.cut_up(corrupted, micro_batches)))
            return self._compare(params, embedded, corrupted)

        (value, metrics), grads = jax.value_and_grad(loss, has_aux=True)(params)
        return grads, {**metrics, "loss": value}

    @property
    def scorers(self) -> Mapping[str, base.Scorer]:
        return {"similarity": self._similarity}

    def _embed(self, params: base.Params, corrupted: Mapping[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        """Embeddings of images and texts, f32[B, E] each, of norm 1."""
        tokens, _ = self._encode(params, corrupted["image"], corrupted.get("patches"))
        pooled = tokens.astype(jnp.float32).mean(1)
        return self.embed_images(params, {"pooled": pooled}), self.embed_texts(params, corrupted)

    def embed_images(self, params: base.Params, features: base.Features) -> jax.Array:
        """See `Objective.embed_images`; of norm 1."""
        return _normalised(features["pooled"] @ params["projection"]["image"]["kernel"])

    def embed_texts(self, params: base.Params, captions: Mapping[str, jax.Array]) -> jax.Array:
        """See `Objective.embed_texts`; of norm 1."""
        text, length = captions["text"], captions["length"]
        rows = text.reshape(-1, text.shape[-1]), length.reshape(-1)
        encoded = self.text_encoder.apply({"params": params["text_encoder"]}, *rows)
        return _normalised(encoded @ params["projection"]["text"]["kernel"]).reshape(*length.shape, -1)

    def _compare(
        self, params: base.Params, embedded: tuple[jax.Array, jax.Array], corrupted: Mapping[str, jax.Array]
    ) -> tuple[jax.Array, base.Metrics]:
        rows = contrastive.Rows(corrupted["row"], corrupted["group"], corrupted["weight"])
        loss, accuracy = self.compare(params, *embedded, rows)
        return loss, {
            "accuracy": accuracy,
            "duplicates": contrastive.duplicated(rows).sum(dtype=jnp.float32),
            **self.scalars(params),
        }

    def _similarity(
        self, params: base.Params, features: base.Features, captions: Mapping[str, jax.Array], key: jax.Array
    ) -> base.Score:
        """The cosine of the angle between the embeddings; `key` is not used."""
        images, texts = self.embed_images(params, features), self.embed_texts(params, captions)
        return exact(jnp.einsum("be,bce->bc", images, texts), "similarity")

    def _text_flops(self, counts: base.TokenCounts, *, training: bool) -> float:
        """One text, whatever the number of captions; without the similarities, whose number is that of the batch."""
        width = self.encoder_sizes.width
        tower = {key: size for key, size in self.text_sizes.items() if key != "heads"}
        projections = 2 * width * (width + self.text_sizes["width"])
        return text_encoder.flops(**tower, length=counts.text_tokens or self.max_tokens) + projections


class Clip(Contrastive):
    """Softmax loss (arXiv 2103.00020), with the paper's initial temperature, .07, and its clamp."""

    initial: Mapping[str, float] = {"log_scale": math.log(1 / 0.07)}

    def scalars(self, params: base.Params) -> Mapping[str, jax.Array]:
        log_scale = params["log_scale"]
        # Clamped in value only: the gradient can lead back.
        return {"log_scale": log_scale - jax.lax.stop_gradient(jnp.maximum(log_scale - MAX_LOG_SCALE, 0.0))}

    def compare(
        self, params: base.Params, images: jax.Array, texts: jax.Array, rows: contrastive.Rows
    ) -> tuple[jax.Array, jax.Array]:
        scale = jnp.exp(self.scalars(params)["log_scale"])
        return contrastive.softmax_loss(images, texts, rows, scale, self.settings.duplicates)


class SigLip(Contrastive):
    """Sigmoid loss (arXiv 2303.15343), with the paper's initial temperature and bias."""

    # Nearly all pairs are negative: the bias starts where that is what the model says.
    initial: Mapping[str, float] = {"log_scale": math.log(10), "bias": -10.0}

    def compare(
        self, params: base.Params, images: jax.Array, texts: jax.Array, rows: contrastive.Rows
    ) -> tuple[jax.Array, jax.Array]:
        scale = jnp.exp(params["log_scale"])
        return contrastive.sigmoid_loss(images, texts, rows, scale, params["bias"], self.settings.duplicates)


def _normalised(x: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True) + 1e-12)


def equal_rows(text: jax.Array) -> jax.Array:
    """Numbers texts i32[B, L] so that equal ones, and no others, have the same number: i32[B].

    They are sorted by hashes of 64 bits, since to sort them whole takes L keys, and then neighbours are compared whole:
    a collision may part equal ones, and joins no others.
    """
    count, length = text.shape
    factors = jax.random.bits(jax.random.key(0), (1, length, 2)) | 1
    hashes = (text.astype(jnp.uint32)[..., None] * factors).sum(1, dtype=jnp.uint32)
    *_, order = jax.lax.sort((hashes[:, 0], hashes[:, 1], jnp.arange(count)), num_keys=2)
    ordered = text[order]
    differs = (ordered[1:] != ordered[:-1]).any(1)
    numbers = jnp.cumsum(jnp.concatenate([jnp.zeros(1, jnp.int32), differs.astype(jnp.int32)]))
    return jnp.zeros(count, jnp.int32).at[order].set(numbers)
