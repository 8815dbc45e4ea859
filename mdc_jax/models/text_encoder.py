"""Transformer over text alone, pre-LN: the text tower of contrastive objectives.

Shapes: B texts, L tokens, D width, V vocabulary.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from mdc_jax.models import layers

EPSILON = 1e-6


class Block(nn.Module):
    """Self-attention and MLP; no biases, as in the text decoder."""

    heads: int
    mlp_dim: int
    dtype: jnp.dtype
    rows: NamedSharding | None

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> tuple[jax.Array, None]:
        def norm(name: str) -> nn.LayerNorm:
            return nn.LayerNorm(EPSILON, use_bias=False, dtype=self.dtype, name=name)

        x = layers.split_rows(x, self.rows)
        y = norm("self_norm")(x)
        attention = layers.Attention(x.shape[-1], self.heads, use_bias=False, dtype=self.dtype, name="self_attention")
        x = x + attention(y, y, mask)
        y = norm("mlp_norm")(x)
        return x + layers.Mlp(self.mlp_dim, use_bias=False, dtype=self.dtype, name="mlp")(y), None


class TextEncoder(nn.Module):
    """Tokens to one vector: that of the last token, EOS, which looks at all others (arXiv 2103.00020)."""

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
    rows: NamedSharding | None = None  # of activations, see `layers.split_rows`

    @nn.compact
    def __call__(self, tokens: jax.Array, length: jax.Array) -> jax.Array:
        """Reads i32[B, L] of `length` i32[B] tokens; nobody attends to what is behind them.

        Returns f32[B, D] after the final LayerNorm; of an empty text, something finite. Raises
        ValueError where the heads do not divide the width.
        """
        if self.width % self.heads:
            raise ValueError(f"{self.heads} heads do not divide the text encoder's width {self.width}")
        initial = nn.initializers.normal(self.embedding_std)
        embedding = self.param("embedding", initial, (self.vocab_size, self.width))
        positions = self.param("positions", initial, (self.max_tokens, self.width))
        last = jnp.maximum(length - 1, 0)
        mask = (jnp.arange(tokens.shape[1])[None] <= last[:, None])[:, None, None]
        x = (
            layers.lookup(embedding, tokens, self.dtype, self.rows)
            + positions.astype(self.dtype)[None, : tokens.shape[1]]
        )
        blocks = layers.stack(Block, self.depth, scan=self.scan or self.is_initializing(), remat=self.remat)
        x, _ = blocks(self.heads, self.mlp_dim, self.dtype, self.rows, name="blocks")(x, mask)
        x = layers.split_rows(x, self.rows)
        x = jnp.take_along_axis(x, last[:, None, None], axis=1)[:, 0]
        return nn.LayerNorm(EPSILON, dtype=self.dtype, name="norm")(x).astype(jnp.float32)


def flops(*, width: int, depth: int, mlp_dim: int, length: float) -> float:
    """Floating-point operations of the matrix products for one text of `length` tokens, pads included."""
    attention = 2 * length * 4 * width**2 + 4 * length**2 * width
    mlp = 2 * length * 2 * width * mlp_dim
    return float(depth * (attention + mlp))
