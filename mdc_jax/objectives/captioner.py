"""What objectives that write captions share: a text decoder that looks at the tokens of a ViT, and one loss.

Subclasses say what the decoder is shown and what each prediction weighs.

Shapes: B images, C captions of an image, T texts of an image that the decoder reads at once, L
tokens, N image tokens, D width, V vocabulary.
"""

import abc
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mdc_jax.config import sections
from mdc_jax.models import text_decoder
from mdc_jax.models.layers import KeysValues
from mdc_jax.objectives import base, sizes
from mdc_jax.objectives.tokens import real_tokens
from mdc_jax.objectives.vision import Vision, random_subsets
from mdc_jax.ops import cross_entropy


class Captioner(Vision):
    def __init__(
        self,
        settings: sections.MaskedDiffusion | sections.Autoregressive | sections.CapPa,
        *,
        model: sections.Model,
        image: sections.Image,
        vocab_size: int,
        max_tokens: int,
        split: cross_entropy.Split | None = None,
    ):
        super().__init__(model=model, image=image, split=split)
        self.section = settings  # as the config has it
        self.settings, self.vocab_size, self.max_tokens, self.split = settings, vocab_size, max_tokens, split
        self.mask_id = vocab_size  # the input-only row of the embedding
        self.decoder_sizes = sizes.decoder_sizes(model)
        self.kept_memory = max(round(model.decoder.memory_keep * self.kept_tokens), 1)
        self.decoder = text_decoder.TextDecoder(
            vocab_size,
            max_tokens,
            self.encoder_sizes.width,
            **self.decoder_sizes,
            embedding_std=model.decoder.embedding_std,
            **sizes.computation(model, split),
        )

    def init(self, key: jax.Array) -> base.Params:
        encoder_key, decoder_key = jax.random.split(key)
        encoder = self._init_encoder(encoder_key)
        memory = jnp.zeros((1, self.tokens, self.encoder_sizes.width))
        texts = jnp.zeros((1, 1, self.max_tokens), jnp.int32)
        return {"encoder": encoder, "decoder": self.decoder.init(decoder_key, texts, memory)["params"]}

    def encode(self, params: base.Params, images: jax.Array) -> base.Features:
        """See `Objective.encode`. Where training shows no image (`null_image_rate` 1) `tokens` are the null memory."""
        features = super().encode(params, images)
        if self.settings.null_image_rate < 1:
            return features
        return {**features, "tokens": self._null_memory(params, features["tokens"].shape[:2])}

    def null_features(self, params: base.Params, images: int) -> base.Features | None:
        """See `Objective.null_features`. One token is enough: attention to equal ones finds the same."""
        return {"tokens": self._null_memory(params, (images, 1))} if self.settings.null_image_rate > 0 else None

    @staticmethod
    def _null_memory(params: base.Params, shape: tuple[int, int]) -> jax.Array:
        """[B, N] copies of the learned token that stands for those of an image, f32[B, N, D]."""
        null = params["decoder"]["null_memory"]
        return jnp.broadcast_to(null[None, None], (*shape, *null.shape))

    @property
    @abc.abstractmethod
    def texts_per_caption(self) -> int:
        """Texts that the decoder reads in training for each caption."""

    @abc.abstractmethod
    def corrupt_text(self, text: jax.Array, length: jax.Array, key: jax.Array) -> Mapping[str, jax.Array]:
        """Draws what the decoder is shown.

        Args:
          text: i32[B, C, L].
          length: i32[B, C].

        Returns `inputs` i32[B, T, L]; `targets` i32[B, T, L]; `predicted` bool[B, T, L], where there is
        a loss; `token_weight` f32[B, T], what each predicted token of a text weighs, normalised by
        the caption's tokens and 0 for missing captions; and what `attention_mask` and `metrics` need.
        """

    @abc.abstractmethod
    def attention_mask(self, corrupted: Mapping[str, jax.Array]) -> jax.Array | None:
        """The decoder's self-attention mask, as `TextDecoder` takes it."""

    def metrics(self, corrupted: Mapping[str, jax.Array]) -> base.Metrics:
        """Metrics of the corruption, weighted by `weight`."""
        return {}

    def corrupt(self, batch: Mapping[str, jax.Array], key: jax.Array) -> Mapping[str, jax.Array]:
        """See `Objective.corrupt`; an example without captions counts as one whose `_mask` is false."""
        text_key, null_key = jax.random.split(key)
        length = batch["length"]
        corrupted = dict(self.corrupt_text(batch["text"], length, text_key))
        # The loss of an image is the mean over its captions, and over the texts of a caption.
        captions = jnp.maximum((length > 0).sum(1), 1).astype(jnp.float32)
        corrupted["token_weight"] /= captions[:, None] * self.texts_per_caption
        valid = batch["_mask"] & (length > 0).any(1)
        corrupted["weight"] = valid / jnp.maximum(valid.sum(), 1).astype(jnp.float32)
        corrupted["null_image"] = jax.random.bernoulli(null_key, self.settings.null_image_rate, valid.shape)
        return {**corrupted, "image": batch["image"]}

    def thin(self, corrupted: Mapping[str, jax.Array], key: jax.Array) -> Mapping[str, jax.Array]:
        """See `Objective.thin`; adds `memory` i32[B, any number], the image tokens that the decoder sees."""
        encoder_key, decoder_key = jax.random.split(key)
        thinned = super().thin(corrupted, encoder_key)
        if self.kept_memory == self.kept_tokens:
            return thinned
        memory = random_subsets(decoder_key, len(corrupted["image"]), self.kept_tokens, self.kept_memory)
        return {**thinned, "memory": memory}

    def loss(self, params: base.Params, corrupted: Mapping[str, jax.Array]) -> tuple[jax.Array, base.Metrics]:
        memory, _ = self._encode(params, corrupted["image"], corrupted.get("patches"))
        if "memory" in corrupted:
            memory = jnp.take_along_axis(memory, corrupted["memory"][..., None], axis=1)
        mask = self.attention_mask(corrupted)
        hidden = self._hidden(params, corrupted["inputs"], memory, mask, corrupted["null_image"])
        predicted, weight = corrupted["predicted"], corrupted["weight"]
        token_weight = (weight[:, None] * corrupted["token_weight"])[..., None] * predicted
        loss, right = self.weighted_loss(hidden, *self._head(params), corrupted["targets"], token_weight)
        tokens = predicted.sum((1, 2))
        metrics = {
            # Of an image without a predicted token there is none: masks may be empty.
            "accuracy": jnp.sum(weight * right.sum((1, 2)) / jnp.maximum(tokens, 1)),
            "accuracy_images": jnp.sum(weight * (tokens > 0)),
            "predicted_tokens": jnp.sum(weight * tokens),
        }
        return loss, {**metrics, **self.metrics(corrupted)}

    def token_losses(
        self, params: base.Params, features: base.Features, captions: Mapping[str, jax.Array], key: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """See `Objective.token_losses`; pads are left out also where training predicts them."""
        text, length = captions["text"], captions["length"]
        corrupted = self.corrupt_text(text, length, key)
        memory = features["tokens"]
        if self.settings.null_image_rate == 1:  # here, so that nothing depends on the image
            memory = self._null_memory(params, memory.shape[:2])
        hidden = self._hidden(params, corrupted["inputs"], memory, self.attention_mask(corrupted))
        log_probs = jax.nn.log_softmax(self._logits(params, hidden))
        nll = -jnp.take_along_axis(log_probs, corrupted["targets"][..., None], axis=-1)[..., 0]
        real = real_tokens(jnp.tile(length, (1, nll.shape[1] // text.shape[1])), nll.shape[2])
        predicted = corrupted["predicted"] & real
        share = predicted.sum(-1) / jnp.maximum(real.sum(-1), 1)
        return jnp.where(predicted, nll, 0.0), predicted, share

    def weighted_loss(self, *arguments: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Sums weighted losses over tokens; see `weighted_cross_entropy`, whose arguments but the last it takes."""
        return cross_entropy.weighted_cross_entropy(*arguments, self.split)

    def _text_flops(self, counts: base.TokenCounts, *, training: bool) -> float:
        return text_decoder.flops(
            **{key: size for key, size in self.decoder_sizes.items() if key != "heads"},
            vocab_size=self.vocab_size,
            memory_width=self.encoder_sizes.width,
            memory_tokens=self.kept_memory if training else self.tokens,
            length=counts.text_tokens or self.max_tokens,
            texts=counts.captions_per_image * self.texts_per_caption,
            predicted=counts.predicted_tokens,
        )

    def _hidden(
        self,
        params: base.Params,
        tokens: jax.Array,
        memory: jax.Array,
        mask: jax.Array | None,
        null: jax.Array | None = None,
    ) -> jax.Array:
        """[B, T, L] and [B, N, D] → hidden states [B, T, L, D]."""
        return self.decoder.apply({"params": params["decoder"]}, tokens, memory, mask, null)

    def _looks(self, params: base.Params, memory: jax.Array, guidance: float) -> tuple[KeysValues, ...]:
        """Keys and values of the images [B, N, D], and with guidance those of none: once for however many steps."""
        image = self._decode(params, memory, method="project")
        return (image, self._decode(params, len(memory), method="project_null")) if guidance else (image,)

    def _image_of_each(self, params: base.Params, memory: jax.Array, rows: int) -> KeysValues:
        """Keys and values that `rows` rows of captions look at; those of an image that all share are found once."""
        (image,) = self._looks(params, memory, 0.0)
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (x.shape[0], rows, *x.shape[2:])), image)

    def _watch(
        self, params: base.Params, image: KeysValues, texts: jax.Array, mask: jax.Array | None = None
    ) -> jax.Array:
        """See `Objective.attention`; of one text i32[B, L] of each image that `_looks` made ready."""
        weights = self._decode(params, texts[:, None], image, mask, method="watch")
        return weights[:, 0, :, int(self.class_token) :]

    def _for_steps(self, params: base.Params) -> base.Params:
        """The decoder's parameters as `_decode` uses them again and again: so that no step of decoding prepares them.

        Matrices have the dtype that it computes in. Where layers do not run in a loop those of each are apart: XLA for
        GPUs would copy them out of their stack at every step.
        """

        def cast(path: tuple[Any, ...], x: jax.Array) -> jax.Array:
            return x.astype(self.decoder.dtype) if path[-1].key in ("kernel", "embedding", "positions") else x

        decoder = jax.tree_util.tree_map_with_path(cast, params["decoder"])
        if not self.decoder.scan:
            layers = range(self.decoder.depth)
            decoder["blocks"] = [jax.tree.map(lambda x, i=i: x[i], decoder["blocks"]) for i in layers]
        return {**params, "decoder": decoder}

    def _decode(self, params: base.Params, *inputs: Any, method: str) -> Any:
        decoder = params["decoder"]
        if isinstance(decoder["blocks"], list):  # see `_for_steps`; the stack is gone when the program is compiled
            decoder = {**decoder, "blocks": jax.tree.map(lambda *layers: jnp.stack(layers), *decoder["blocks"])}
        return self.decoder.apply({"params": decoder}, *inputs, method=method)

    def _logits(self, params: base.Params, hidden: jax.Array, forbidden: Sequence[int] = ()) -> jax.Array:
        """[..., D] → f32[..., V], -inf for `forbidden` tokens."""
        return cross_entropy.logits(hidden, *self._head(params, forbidden))

    def _head(self, params: base.Params, forbidden: Sequence[int] = ()) -> tuple[jax.Array, jax.Array]:
        """Kernel and bias of the output layer; a bias of -inf forbids a token."""
        head = params["decoder"]["head"]
        bias = head["bias"]
        for token in forbidden:
            bias = bias.at[token].set(-jnp.inf)
        return head["kernel"], bias
