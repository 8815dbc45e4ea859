"""Parts that the image encoder and the text decoder share.

Parameters are float32; `dtype` is that of the computation. Kernels are [in, out], for all heads
together. Shapes: B batch, Q queries, S keys, D width.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp


class Dense(nn.Module):
    """A linear layer over the last axis.

    It multiplies matrices of two axes. With more, XLA on a CPU takes the gradient of the kernel from
    a transposed copy of the inputs, recomputed element by element: an MLP is then half as fast.
    """

    features: int
    use_bias: bool = True
    dtype: jnp.dtype = jnp.float32
    kernel_init: nn.initializers.Initializer = nn.initializers.xavier_uniform()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        y = x.reshape(-1, x.shape[-1]).astype(self.dtype) @ kernel.astype(self.dtype)
        if self.use_bias:
            y += self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)[None]
        return y.reshape(*x.shape[:-1], self.features)


class Attention(nn.Module):
    """Multi-head attention of queries [B, Q, D] to a memory [B, S, any width]; returns [B, Q, D]."""

    heads: int
    use_bias: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, queries: jax.Array, memory: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """`mask` is bool[B or 1, 1, Q or 1, S]: true where a query may look; None is everywhere."""
        width = queries.shape[-1]

        def project(name: str, x: jax.Array) -> jax.Array:
            y = Dense(width, self.use_bias, self.dtype, name=name)(x)
            return y.reshape(*x.shape[:2], self.heads, width // self.heads)

        query, key, value = project("query", queries), project("key", memory), project("value", memory)
        implementation = attention_implementation(query.dtype, width // self.heads, masked=mask is not None)
        attended = jax.nn.dot_product_attention(query, key, value, mask=mask, implementation=implementation)
        return Dense(width, self.use_bias, self.dtype, name="out")(attended.reshape(queries.shape))


def attention_implementation(dtype: jnp.dtype, head_dim: int, *, masked: bool) -> str:
    """ "cudnn", flash attention that never holds all weights [B, heads, Q, S] (arXiv 2205.14135), or "xla".

    cuDNN computes bfloat16 and float16 on NVIDIA GPUs since Ampere, in heads of at most 128 that 8 divides.
    """
    device = jax.devices()[0]
    if device.platform != "gpu" or "cuda" not in device.client.platform_version:
        return "xla"
    ampere = int(device.compute_capability.partition(".")[0]) >= 8
    fits = dtype in (jnp.bfloat16, jnp.float16) and head_dim <= 128 and head_dim % 8 == 0
    # cuDNN takes a mask as a bias [B, 1, Q, S], of even Q and S only: what it saves is lost on short texts.
    return "cudnn" if ampere and fits and not masked else "xla"


class Mlp(nn.Module):
    """Dense, GELU, Dense."""

    hidden: int
    use_bias: bool = True
    exact_gelu: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.gelu(Dense(self.hidden, self.use_bias, self.dtype, name="up")(x), approximate=not self.exact_gelu)
        return Dense(x.shape[-1], self.use_bias, self.dtype, name="down")(y)


def stack(block: type[nn.Module], depth: int, *, scan: bool, remat: bool) -> Callable[..., nn.Module]:
    """`depth` layers of `block`, whose call is (x, *shared) → (x, output of the layer).

    Every parameter and every output gets a leading axis [depth], whether the layers run in a loop
    (`scan`: deep models compile faster) or one after the other: checkpoints are the same.
    """
    if remat:
        block = nn.remat(block, prevent_cse=not scan)
    return nn.scan(
        block,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=nn.broadcast,
        length=depth,
        unroll=1 if scan else depth,
    )
