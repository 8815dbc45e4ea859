"""Transformer decoder over text that looks at image tokens (CapPa, arXiv 2306.07915), pre-LN.

Shapes: B images, T texts of an image, L tokens, N image tokens, D width, E width of the image
tokens, V vocabulary, H heads.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from mdc_jax.models import layers

EPSILON = 1e-6


class Block(nn.Module):
    """Self-attention, cross-attention, MLP; no biases, in the LayerNorms neither."""

    width: int
    heads: int
    mlp_dim: int
    dtype: jnp.dtype
    rows: NamedSharding | None

    def setup(self) -> None:
        self.self_norm, self.cross_norm, self.mlp_norm = (
            nn.LayerNorm(EPSILON, use_bias=False, dtype=self.dtype) for _ in range(3)
        )
        self.self_attention, self.cross_attention = (
            layers.Attention(self.width, self.heads, use_bias=False, dtype=self.dtype) for _ in range(2)
        )
        self.mlp = layers.Mlp(self.mlp_dim, use_bias=False, dtype=self.dtype)

    def __call__(self, x: jax.Array, memory: jax.Array, mask: jax.Array | None) -> tuple[jax.Array, None]:
        return self.read(x, self.cross_attention.project(memory), mask)

    def project(self, x: None, memory: jax.Array) -> tuple[None, layers.KeysValues]:
        return x, self.cross_attention.project(memory)

    def read(self, x: jax.Array, image: layers.KeysValues, mask: jax.Array | None) -> tuple[jax.Array, None]:
        return self._look(self._read_itself(x, mask), image), None

    def watch(self, x: jax.Array, image: layers.KeysValues, mask: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        batch, texts, length, _ = x.shape
        x = self._read_itself(x, mask)
        weights = self.cross_attention.weights(self.cross_norm(x).reshape(batch, texts * length, -1), image).mean(1)
        return self._look(x, image), weights.reshape(batch, texts, length, -1)

    def extend(
        self, x: jax.Array, image: layers.KeysValues, before: layers.KeysValues, position: jax.Array
    ) -> tuple[jax.Array, layers.KeysValues]:
        y = _texts_apart(self.self_norm(x))
        own = self.self_attention.project(y)
        seen = layers.KeysValues(
            *(
                jax.lax.dynamic_update_slice_in_dim(all_, new.reshape(*x.shape[:3], *new.shape[2:]), position, axis=2)
                for all_, new in zip(before, own, strict=True)
            )
        )
        mask = (jnp.arange(seen.keys.shape[2]) <= position)[None, None, None]
        attended = self.self_attention.attend(y, layers.KeysValues(*map(_texts_apart, seen)), mask)
        return self._look(x + attended.reshape(x.shape), image), seen

    def _read_itself(self, x: jax.Array, mask: jax.Array | None) -> jax.Array:
        x = layers.split_rows(x, self.rows)
        y = _texts_apart(self.self_norm(x))  # each text looks at itself alone
        return x + self.self_attention(y, y, mask).reshape(x.shape)

    def _look(self, x: jax.Array, image: layers.KeysValues) -> jax.Array:
        # All texts of an image share its keys and values.
        batch, texts, length, width = x.shape
        y = self.cross_norm(x).reshape(batch, texts * length, width)
        x = x + self.cross_attention.attend(y, image).reshape(x.shape)
        return x + self.mlp(self.mlp_norm(x))


def _texts_apart(x: jax.Array) -> jax.Array:
    """[B, T, ...] → [B T, ...]."""
    return x.reshape(-1, *x.shape[2:])


# How layers take what follows x: keys and values are each layer's own.
_METHODS = {
    "__call__": nn.broadcast,
    "project": nn.broadcast,
    "read": (0, nn.broadcast),
    "watch": (0, nn.broadcast),
    "extend": (0, 0, nn.broadcast),
}


class Head(nn.Module):
    """The output layer's parameters; `mdc_jax/ops/cross_entropy.py` applies them.

    Zero kernel: training starts from the uniform distribution, at a loss of log V.
    """

    vocab_size: int

    @nn.compact
    def __call__(self, width: int) -> None:
        self.param("kernel", nn.initializers.zeros, (width, self.vocab_size))
        self.param("bias", nn.initializers.zeros, (self.vocab_size,))


class TextDecoder(nn.Module):
    """Tokens and image tokens to hidden states.

    Row V of the embedding is the input-only MASK: the output layer has V rows, so that MASK is
    never predicted. Token and position embeddings start at one scale, `embedding_std`, so that a
    masked token shows its position: with a larger token embedding all masked inputs look alike after
    LayerNorm. The larger the scale, the longer a token is told from what the layers add to it.
    """

    vocab_size: int
    max_tokens: int
    memory_width: int
    width: int
    depth: int
    heads: int
    mlp_dim: int
    embedding_std: float = 0.02
    dtype: jnp.dtype = jnp.float32
    scan: bool = True
    remat: bool = False
    rows: NamedSharding | None = None  # of activations, see `layers.split_rows`

    def setup(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"{self.heads} heads do not divide the decoder's width {self.width}")
        initial = nn.initializers.normal(self.embedding_std)
        self.embedding = self.param("embedding", initial, (self.vocab_size + 1, self.width))
        self.positions = self.param("positions", initial, (self.max_tokens, self.width))
        self.null_memory = self.param("null_memory", nn.initializers.normal(0.02), (self.memory_width,))
        self.head = Head(self.vocab_size)
        self.head(self.width)
        blocks = layers.stack(
            Block, self.depth, scan=self.scan or self.is_initializing(), remat=self.remat, methods=_METHODS
        )
        self.blocks = blocks(self.width, self.heads, self.mlp_dim, self.dtype, self.rows)
        self.norm = nn.LayerNorm(EPSILON, dtype=self.dtype)

    def __call__(
        self, tokens: jax.Array, memory: jax.Array, mask: jax.Array | None = None, null: jax.Array | None = None
    ) -> jax.Array:
        """Reads i32[B, T, L] with token ids in [0, V] and image tokens [B, N, E].

        Args:
          mask: self-attention, bool[B or 1, T or 1, L or 1, L] ([.., query, key]); None: everywhere.
          null: bool[B], the images to replace by the learned null memory; None: none.

        Returns hidden states [B, T, L, D] after the final LayerNorm. Raises ValueError where the
        heads do not divide the width.
        """
        memory = memory.astype(self.dtype)
        if null is not None:
            memory = jnp.where(null[:, None, None], self.null_memory.astype(self.dtype)[None, None], memory)
        x, _ = self.blocks(self._embed(tokens), memory, _by_text(mask, tokens))
        return self.norm(layers.split_rows(x, self.rows))

    def project(self, memory: jax.Array) -> layers.KeysValues:
        """Keys and values of image tokens [B, N, E] for every layer, [depth, B, N, H, D / H] each."""
        return self.blocks.project(None, memory.astype(self.dtype))[1]

    def project_null(self, batch: int) -> layers.KeysValues:
        """As `project`, of the learned null memory: one token, which weighs what N equal ones do."""
        return self.project(jnp.broadcast_to(self.null_memory[None, None], (batch, 1, self.memory_width)))

    def read(self, tokens: jax.Array, image: layers.KeysValues, mask: jax.Array | None = None) -> jax.Array:
        """As a call, of an image that `project` made ready."""
        x, _ = self.blocks.read(self._embed(tokens), image, _by_text(mask, tokens))
        return self.norm(x)

    def watch(self, tokens: jax.Array, image: layers.KeysValues, mask: jax.Array | None = None) -> jax.Array:
        """How much each token of `read` looks at each image token, f32[B, T, L, N]: mean of all heads and layers."""
        _, weights = self.blocks.watch(self._embed(tokens), image, _by_text(mask, tokens))
        return weights.mean(0)

    def extend(
        self, tokens: jax.Array, image: layers.KeysValues, before: layers.KeysValues, position: jax.Array
    ) -> tuple[jax.Array, layers.KeysValues]:
        """Reads the token of each text, i32[B, T], that stands at `position` i32[], given those before it.

        Args:
          before: keys and values of the tokens before it for every layer, [depth, B, T, L, H, D / H]
            each; `nothing_before` at the start of a text.

        Returns hidden states [B, T, D], equal to those of `read` under a causal mask, and `before` of
        the next token.
        """
        x = self._embed(tokens[..., None], position)
        x, before = self.blocks.extend(x, image, before, position)
        return self.norm(x)[:, :, 0], before

    def nothing_before(self, batch: int, texts: int) -> layers.KeysValues:
        """See `extend`."""
        shape = (self.depth, batch, texts, self.max_tokens, self.heads, self.width // self.heads)
        return layers.KeysValues(jnp.zeros(shape, self.dtype), jnp.zeros(shape, self.dtype))

    def _embed(self, tokens: jax.Array, start: jax.Array | int = 0) -> jax.Array:
        """i32[B, T, L], tokens at the places from `start` on → [B, T, L, D]."""
        positions = jax.lax.dynamic_slice_in_dim(self.positions.astype(self.dtype), start, tokens.shape[-1])
        return layers.lookup(self.embedding, tokens, self.dtype, self.rows) + positions[None, None]


def _by_text(mask: jax.Array | None, tokens: jax.Array) -> jax.Array | None:
    """A mask as `TextDecoder` takes it for texts i32[B, T, L] → bool[B T or 1, 1, L or 1, L]."""
    if mask is None:
        return None
    if mask.shape[:2] != (1, 1):
        mask = jnp.broadcast_to(mask, (*tokens.shape[:2], *mask.shape[2:]))
    return mask.reshape(-1, 1, *mask.shape[2:])


def flops(
    *,
    width: int,
    depth: int,
    mlp_dim: int,
    vocab_size: int,
    memory_width: int,
    memory_tokens: int,
    length: float,
    texts: int,
    predicted: float | None = None,
) -> float:
    """Floating-point operations of the matrix products for one image with `texts` texts of `length` tokens.

    The output layer is run on the `predicted` tokens only; None: on all.
    """
    queries = texts * length
    self_attention = 2 * queries * 4 * width**2 + 4 * queries * length * width
    cross_attention = 2 * queries * 2 * width**2 + 4 * queries * memory_tokens * width
    keys_values = keys_values_flops(width=width, depth=depth, memory_width=memory_width, memory_tokens=memory_tokens)
    mlp = 2 * queries * 2 * width * mlp_dim
    head = 2 * (queries if predicted is None else predicted) * width * vocab_size
    return float(depth * (self_attention + cross_attention + mlp) + head) + keys_values


def keys_values_flops(*, width: int, depth: int, memory_width: int, memory_tokens: int) -> float:
    """Of `flops`, those of the keys and values of an image, which all its texts and all steps of decoding share."""
    return float(depth * 2 * memory_tokens * 2 * memory_width * width)
