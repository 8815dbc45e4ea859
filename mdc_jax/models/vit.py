"""Vision Transformer (arXiv 2010.11929), pre-LN.

Shapes: B images, H x W pixels, N tokens (patches row by row, after a class token where there is
one), D width.
"""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from mdc_jax.models import layers


@dataclasses.dataclass(frozen=True)
class Sizes:
    patch: int  # pixels
    width: int
    depth: int
    heads: int
    mlp_dim: int


# Without the patch, which follows the slash of a variant.
_VARIANTS = {
    "Ti": (192, 12, 3, 768),
    "S": (384, 12, 6, 1536),
    "B": (768, 12, 12, 3072),
    "L": (1024, 24, 16, 4096),
    "So400m": (1152, 27, 16, 4304),
    "H": (1280, 32, 16, 5120),
}


def sizes(variant: str) -> Sizes:
    """The sizes of "B/16" (size/patch); raises ValueError for a variant that is not known."""
    name, _, patch = variant.partition("/")
    if name not in _VARIANTS or not patch.isdigit() or int(patch) == 0:
        raise ValueError(f'encoder variant "{variant}": expected size/patch as in "B/16", sizes {", ".join(_VARIANTS)}')
    return Sizes(int(patch), *_VARIANTS[name])


def sincos2d(rows: int, columns: int, width: int) -> np.ndarray:
    """2-D sine-cosine positions (arXiv 2104.02057), f32[rows * columns, width], of amplitude 1.

    A quarter of the channels each: sine and cosine of the row, sine and cosine of the column, at
    wavelengths from 2 pi to 20,000 pi patches. Raises ValueError if 4 does not divide the width.
    """
    if width % 4:
        raise ValueError(f"sincos2d positions need a width that 4 divides, got {width}")
    frequencies = 10_000.0 ** -np.linspace(0, 1, width // 4)
    y, x = np.mgrid[:rows, :columns].reshape(2, -1, 1)
    parts = [function(axis * frequencies) for axis in (y, x) for function in (np.sin, np.cos)]
    return np.concatenate(parts, axis=1).astype(np.float32)


class Block(nn.Module):
    heads: int
    mlp_dim: int
    exact_gelu: bool
    epsilon: float
    dtype: jnp.dtype
    rows: NamedSharding | None

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = layers.split_rows(x, self.rows)
        y = nn.LayerNorm(self.epsilon, dtype=self.dtype, name="attention_norm")(x)
        x = x + layers.Attention(x.shape[-1], self.heads, dtype=self.dtype, name="attention")(y, y)
        y = nn.LayerNorm(self.epsilon, dtype=self.dtype, name="mlp_norm")(x)
        x = x + layers.Mlp(self.mlp_dim, exact_gelu=self.exact_gelu, dtype=self.dtype, name="mlp")(y)
        return x, x


class ViT(nn.Module):
    """Normalised images to tokens.

    `position` "learned": initial standard deviation `position_std`; "sincos2d": fixed, amplitude
    `position_std`. `patch_norm` puts a LayerNorm between the patch embedding and the positions, so
    that the scale of the positions can be told beside that of the patches.
    """

    patch: int
    width: int
    depth: int
    heads: int
    mlp_dim: int
    position: str = "learned"
    position_std: float = 0.02
    patch_norm: bool = False
    class_token: bool = False
    exact_gelu: bool = False
    epsilon: float = 1e-6
    dtype: jnp.dtype = jnp.float32
    scan: bool = True
    remat: bool = False
    rows: NamedSharding | None = None  # of activations, see `layers.split_rows`

    @nn.compact
    def __call__(self, images: jax.Array, kept: jax.Array | None = None) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Encodes f32[B, H, W, 3], or of each image only the patches `kept` i32[B, any number].

        Returns tokens [B, N, D] after the final LayerNorm, and intermediates: `stem` [B, N, D], what
        enters the first block, and `blocks` [depth, B, N, D], what leaves each. Raises ValueError
        where the patch does not divide the image or the heads do not divide the width.
        """
        batch, height, width = images.shape[:3]
        if height % self.patch or width % self.patch:
            raise ValueError(f"patches of {self.patch} pixels do not divide images of {height} x {width}")
        if self.width % self.heads:
            raise ValueError(f"{self.heads} heads do not divide the encoder's width {self.width}")
        rows, columns = height // self.patch, width // self.patch

        patches = images.reshape(batch, rows, self.patch, columns, self.patch, 3).swapaxes(2, 3)
        patches = patches.reshape(batch, rows * columns, self.patch * self.patch * 3)
        x = layers.Dense(self.width, dtype=self.dtype, kernel_init=nn.initializers.lecun_normal(), name="patch")(
            patches
        )
        if self.patch_norm:
            x = nn.LayerNorm(self.epsilon, dtype=self.dtype, name="patch_norm")(x)
        x = x + self._positions(rows, columns).astype(self.dtype)[None]
        if kept is not None:
            x = jnp.take_along_axis(x, kept[..., None], axis=1)
        if self.class_token:
            token = self.param("class_token", nn.initializers.normal(0.02), (self.width,))
            token = jnp.broadcast_to(token.astype(self.dtype), (batch, 1, self.width))
            x = jnp.concatenate([token, x], axis=1)

        blocks = layers.stack(Block, self.depth, scan=self.scan or self.is_initializing(), remat=self.remat)
        stem = x
        settings = self.heads, self.mlp_dim, self.exact_gelu, self.epsilon, self.dtype, self.rows
        x, outputs = blocks(*settings, name="blocks")(stem)
        x = nn.LayerNorm(self.epsilon, dtype=self.dtype, name="norm")(layers.split_rows(x, self.rows))
        return x, {"stem": stem, "blocks": outputs}

    def _positions(self, rows: int, columns: int) -> jax.Array:
        if self.position == "sincos2d":
            return jnp.asarray(self.position_std * sincos2d(rows, columns, self.width))
        if self.position == "learned":
            return self.param("positions", nn.initializers.normal(self.position_std), (rows * columns, self.width))
        raise ValueError(f'position="{self.position}": choose learned or sincos2d')


def flops(sizes: Sizes, image_size: int, class_token: bool = False, kept: int | None = None) -> tuple[float, float]:
    """Floating-point operations of the matrix products for one image: of the patch embedding, of all blocks.

    The blocks see `kept` patches; None: all.
    """
    patches = (image_size // sizes.patch) ** 2
    tokens = (patches if kept is None else kept) + class_token
    embedding = 2 * patches * (3 * sizes.patch**2) * sizes.width
    block = 2 * tokens * (4 * sizes.width**2 + 2 * sizes.width * sizes.mlp_dim) + 4 * tokens**2 * sizes.width
    return float(embedding), float(sizes.depth * block)


def num_tokens(sizes: Sizes, image_size: int, class_token: bool = False) -> int:
    """N: image tokens that the encoder returns."""
    return math.prod([image_size // sizes.patch] * 2) + class_token
