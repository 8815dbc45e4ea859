"""Parts that the image encoder, the text decoder and the text encoder share.

Parameters are float32; `dtype` is that of the computation. Kernels are [in, out], for all heads
together. Shapes: B batch, Q queries, S keys, D width, H heads.
"""

import contextlib
import contextvars
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import NamedSharding, PartitionSpec


def split_rows(x: jax.Array, rows: NamedSharding | None) -> jax.Array:
    """Keeps the leading axis of activations [B, ...] over devices as `rows` says; None: one device has all.

    Left alone, XLA splits the width where kernels are split over axes that the batch has too, and every device computes
    the rows of others. A B that the devices do not divide, as that of initialisation, is left alone.
    """
    return jax.lax.with_sharding_constraint(x, rows) if _divides(rows, len(x)) else x


def lookup(table: jax.Array, index: jax.Array, dtype: jnp.dtype, rows: NamedSharding | None) -> jax.Array:
    """Rows of a table f32[V, D] at i32[B, ...], as [B, ..., D] in a dtype.

    Devices that share the batch look up their own rows in a table that each has whole.
    """
    table = table.astype(dtype)
    if not _divides(rows, len(index)):
        return _take(table, index)
    return jax.shard_map(
        _take, mesh=rows.mesh, in_specs=(PartitionSpec(), rows.spec), out_specs=rows.spec, check_vma=False
    )(table, index)


def _divides(rows: NamedSharding | None, count: int) -> bool:
    """Whether there are several devices, which can have equally many of so many rows."""
    return rows is not None and count % math.prod(rows.mesh.shape[axis] for axis in rows.spec[0]) == 0


@jax.custom_vjp
def _take(table: jax.Array, index: jax.Array) -> jax.Array:
    return table[index]


def _take_forward(table: jax.Array, index: jax.Array) -> tuple[jax.Array, tuple[jax.Array, int]]:
    return table[index], (index, len(table))


def _take_backward(kept: tuple[jax.Array, int], gradient: jax.Array) -> tuple[jax.Array, None]:
    # Most tokens of a batch are MASK or a pad: a sum of thousands of bfloat16 numbers loses most of what they say, and
    # on a GPU its additions wait for each other, half of a step. Devices then send sums in the dtype of all gradients.
    index, size = kept
    sums = jnp.zeros((size, gradient.shape[-1])).at[index].add(gradient.astype(jnp.float32))
    return sums.astype(gradient.dtype), None


_take.defvjp(_take_forward, _take_backward)


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


_ATTENDED = "attended"  # the name of what attention gives, for those who choose what to keep


class KeysValues(NamedTuple):
    """What queries look at: [B, S, H, D / H] each."""

    keys: jax.Array
    values: jax.Array


class Attention(nn.Module):
    """Multi-head attention of queries [B, Q, D] to a memory [B, S, any width]; returns [B, Q, D].

    Its two halves are there for those who look at the same memory again and again.
    """

    width: int
    heads: int
    use_bias: bool = True
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        self.query, self.key, self.value, self.out = (
            Dense(self.width, self.use_bias, self.dtype) for _ in ("query", "key", "value", "out")
        )

    def __call__(self, queries: jax.Array, memory: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """`mask` is bool[B or 1, 1, Q or 1, S]: true where a query may look; None is everywhere."""
        return self.attend(queries, self.project(memory), mask)

    def project(self, memory: jax.Array) -> KeysValues:
        return KeysValues(self._by_head(self.key(memory)), self._by_head(self.value(memory)))

    def attend(self, queries: jax.Array, memory: KeysValues, mask: jax.Array | None = None) -> jax.Array:
        """As a call, of a memory that `project` made ready."""
        query, keys = self._by_head(self.query(queries)), memory.keys.shape[1]
        implementation = attention_implementation(query.dtype, query.shape[-1], keys, masked=mask is not None)
        attended = attend(query, memory, mask, implementation)
        return self.out(checkpoint_name(attended, _ATTENDED).reshape(queries.shape))

    def weights(self, queries: jax.Array, memory: KeysValues) -> jax.Array:
        """How much each query of `attend` looks at each part of the memory, f32[B, H, Q, S]; sums to 1."""
        query = self._by_head(self.query(queries)).astype(jnp.float32)
        products = jnp.einsum("bqhd,bshd->bhqs", query, memory.keys.astype(jnp.float32))
        return jax.nn.softmax(products / query.shape[-1] ** 0.5)

    def _by_head(self, x: jax.Array) -> jax.Array:
        return x.reshape(*x.shape[:2], self.heads, self.width // self.heads)


# Those that programs are traced for, where they are not this machine's.
_devices: contextvars.ContextVar[Sequence[jax.Device] | None] = contextvars.ContextVar("devices", default=None)


@contextlib.contextmanager
def traced_for(devices: Sequence[jax.Device]) -> Iterator[None]:
    """Programs that are traced in this block are for other devices than those of this machine."""
    token = _devices.set(devices)
    try:
        yield
    finally:
        _devices.reset(token)


# Of more bytes of attention weights a CPU, whose caches they do not fit in, computes those of one image after another:
# B/16 takes .8 of the time with 196 patches and .6 with 784, the weights' second computation included.
_WEIGHTS_AT_ONCE = 2**23


def attend(query: jax.Array, memory: KeysValues, mask: jax.Array | None, implementation: str) -> jax.Array:
    """Means of values [B, S, H, D / H], weighted by the attention of queries [B, Q, H, D / H] to keys; as the queries.

    Args:
      query, memory: of B images.
      mask: as `Attention` takes it.
      implementation: see `attention_implementation`.
    """
    whole = functools.partial(jax.nn.dot_product_attention, implementation=implementation)
    images, queries, heads, _ = query.shape
    weights = query.dtype.itemsize * images * heads * queries * memory.keys.shape[1]
    devices = _devices.get() or jax.devices()
    alone = len(devices) == 1 and devices[0].platform == "cpu"  # several share the images
    if weights <= _WEIGHTS_AT_ONCE or not alone:
        return whole(query, *memory, mask=mask)
    masks = None if mask is None else jnp.broadcast_to(mask, (images, *mask.shape[1:]))
    one = jax.checkpoint(lambda image: whole(*image[:3], mask=image[3]))
    return jax.lax.map(one, (query, *memory, masks))


def attention_implementation(dtype: jnp.dtype, head_dim: int, keys: int, *, masked: bool) -> str:
    """ "cudnn", flash attention that never holds all weights [B, heads, Q, S] (arXiv 2205.14135), or "xla".

    cuDNN computes bfloat16 and float16 on NVIDIA GPUs since Ampere, in heads of at most 128 that 8 divides.
    """
    device = jax.devices()[0]
    fits = dtype in (jnp.bfloat16, jnp.float16) and head_dim <= 128 and head_dim % 8 == 0
    # cuDNN takes a mask as a bias [B, 1, Q, S], of even Q and S only: what it saves is lost on short texts. Its tiles
    # have 64 queries and 128 keys or 64: of the 24 tokens of a caption most are empty.
    pays = keys >= 64 and not masked
    return "cudnn" if is_nvidia(device) and has_bfloat16(device) and fits and pays else "xla"


def is_nvidia(device: jax.Device) -> bool:
    return device.platform == "gpu" and "cuda" in device.client.platform_version


def has_bfloat16(device: jax.Device) -> bool:
    """Whether bfloat16 is faster than float32: CPUs take up to twice the time, NVIDIA's GPUs have it since Ampere."""
    ampere = not is_nvidia(device) or int(device.compute_capability.partition(".")[0]) >= 8
    return device.platform != "cpu" and ampere


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


# All products with kernels, and of attention not the products of queries and keys, which are many.
_KEPT = jax.checkpoint_policies.save_from_both_policies(
    jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    jax.checkpoint_policies.save_only_these_names(_ATTENDED),
)


def stack(
    block: type[nn.Module],
    depth: int,
    *,
    scan: bool,
    remat: bool,
    methods: Mapping[str, Any] = MappingProxyType({"__call__": nn.broadcast}),
) -> Callable[..., nn.Module]:
    """`depth` layers of `block`, whose call is (x, *inputs) → (x, output of the layer).

    Every parameter and every output gets a leading axis [depth], whether the layers run in a loop
    (`scan`: deep models compile faster) or one after the other: checkpoints are the same. So all models
    are initialised in a loop, which compiles in a quarter of the time.

    With `remat` the backward pass computes whole layers again. Without, a loop keeps what attention and products with
    kernels give, and computes norms, GELU and the weights of attention again (cuDNN: all of attention): all that the
    backward pass reads would be nearly five times as much, which a loop copies into stacks and back.

    Args:
      methods: of the block, with that signature → how layers take the inputs, as `nn.scan` has it:
        `nn.broadcast`: all take the same; 0: each its own slice of the leading axis; a tuple, by input.
    """
    if remat or scan:
        block = nn.remat(block, prevent_cse=not scan, policy=None if remat else _KEPT)
    shared = {
        "variable_axes": {"params": 0},
        "split_rngs": {"params": True},
        "length": depth,
        "unroll": 1 if scan else depth,
    }
    return nn.scan(block, methods={name: {**shared, "in_axes": axes} for name, axes in methods.items()})
