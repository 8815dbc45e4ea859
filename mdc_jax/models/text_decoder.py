"""Transformer decoder over text that looks at image tokens (CapPa, arXiv 2306.07915), pre-LN.

Shapes: B images, T texts of an image, L tokens, N image tokens, D width, E width of the image
tokens, V vocabulary.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mdc_jax.models import layers

EPSILON = 1e-6


class Block(nn.Module):
    """Self-attention, cross-attention, MLP; no biases, in the LayerNorms neither."""

    heads: int
    mlp_dim: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, memory: jax.Array, mask: jax.Array | None) -> tuple[jax.Array, None]:
        batch, texts, length, width = x.shape

        def norm(name: str) -> nn.LayerNorm:
            return nn.LayerNorm(EPSILON, use_bias=False, dtype=self.dtype, name=name)

        def attention(name: str) -> layers.Attention:
            return layers.Attention(self.heads, use_bias=False, dtype=self.dtype, name=name)

        # Each text looks at itself; all texts of an image share its keys and values.
        y = norm("self_norm")(x).reshape(batch * texts, length, width)
        x = x + attention("self_attention")(y, y, mask).reshape(x.shape)
        y = norm("cross_norm")(x).reshape(batch, texts * length, width)
        x = x + attention("cross_attention")(y, memory).reshape(x.shape)
        y = norm("mlp_norm")(x)
        return x + layers.Mlp(self.mlp_dim, use_bias=False, dtype=self.dtype, name="mlp")(y), None


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
    width: int
    depth: int
    heads: int
    mlp_dim: int
    embedding_std: float = 0.02
    dtype: jnp.dtype = jnp.float32
    scan: bool = True
    remat: bool = False

    @nn.compact
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
        if self.width % self.heads:
            raise ValueError(f"{self.heads} heads do not divide the decoder's width {self.width}")
        initial = nn.initializers.normal(self.embedding_std)
        embedding = self.param("embedding", initial, (self.vocab_size + 1, self.width))
        positions = self.param("positions", initial, (self.max_tokens, self.width))
        null_memory = self.param("null_memory", nn.initializers.normal(0.02), (memory.shape[-1],))
        Head(self.vocab_size, name="head")(self.width)

        memory = memory.astype(self.dtype)
        if null is not None:
            memory = jnp.where(null[:, None, None], null_memory.astype(self.dtype)[None, None], memory)
        batch, texts, length = tokens.shape
        if mask is not None and mask.shape[:2] != (1, 1):
            mask = jnp.broadcast_to(mask, (batch, texts, *mask.shape[2:]))
        if mask is not None:
            mask = mask.reshape(-1, 1, *mask.shape[2:])
        x = embedding.astype(self.dtype)[tokens] + positions.astype(self.dtype)[None, None, :length]
        blocks = layers.stack(Block, self.depth, scan=self.scan, remat=self.remat)
        x, _ = blocks(self.heads, self.mlp_dim, self.dtype, name="blocks")(x, memory, mask)
        return nn.LayerNorm(EPSILON, dtype=self.dtype, name="norm")(x)


def flops(
    *,
    width: int,
    depth: int,
    mlp_dim: int,
    vocab_size: int,
    memory_width: int,
    memory_tokens: int,
    length: int,
    texts: int,
    predicted: float | None = None,
) -> float:
    """Floating-point operations of the matrix products for one image with `texts` texts of `length` tokens.

    The output layer is run on the `predicted` tokens only; None: on all.
    """
    queries = texts * length
    self_attention = 2 * queries * 4 * width**2 + 4 * queries * length * width
    cross_attention = 2 * queries * 2 * width**2 + 4 * queries * memory_tokens * width
    keys_values = 2 * memory_tokens * 2 * memory_width * width  # once per image
    mlp = 2 * queries * 2 * width * mlp_dim
    head = 2 * (queries if predicted is None else predicted) * width * vocab_size
    return float(depth * (self_attention + cross_attention + keys_values + mlp) + head)
