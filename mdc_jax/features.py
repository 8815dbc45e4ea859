"""The features of a trained encoder, for whatever comes next: clusters, probes, retrieval, another model.

    encoder = features.load("runs/scenes")
    encoder(["cat.png", "dog.png"])                    # f32[2, D], the mean of each image's tokens
    encoder(["cat.png"], "tokens", layer=0)            # f32[1, N, D], what enters the first block

`python -m mdc_jax.extract` does this for a folder of images.

Shapes: B images, N image tokens, D width.
"""

import functools
import operator
import os
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Self

import jax
import numpy as np
import PIL.Image

from mdc_jax import batching
from mdc_jax.batching import Image
from mdc_jax.config import ConfigError
from mdc_jax.exchange import loading
from mdc_jax.objectives.base import Features, Objective, Params
from mdc_jax.training import checkpoint, sharding

KINDS = ("pooled", "tokens")


class Encoder:
    """Takes lists of images, prepares them as the checkpoint says, and runs batches of at most `batch_size`.

    A batch is split over all devices, and a program is compiled once for each of the few sizes that batches have.
    """

    def __init__(self, loaded: checkpoint.Loaded, batch_size: int = 32) -> None:
        if not _is_whole(batch_size) or batch_size < 1:
            raise ConfigError(f"batch_size={batch_size!r}: must be a whole number, at least 1")
        self.loaded = loaded
        self._batch_size = batch_size

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, step: int | None = None, batch_size: int = 32) -> Self:
        """Loads a run, at its latest checkpoint or that of `step`, an export, or a released encoder.

        Raises ConfigError where there is none of these; see `exchange.loading`.
        """
        return cls(loading.load(path, step=step), batch_size)

    @functools.cached_property
    def layers(self) -> int:
        """The number of the last layer; the first is 0."""
        size = self.loaded.config.image.size
        image = jax.ShapeDtypeStruct((1, size, size, 3), np.uint8)
        return len(jax.eval_shape(self.loaded.objective.encode, self.loaded.params, image)["blocks"])

    def layer(self, number: int) -> int:
        """The same layer counted from 0, where it may be counted from the last, -1; raises ConfigError for no layer."""
        if not _is_whole(number) or not -self.layers - 1 <= number <= self.layers:
            raise ConfigError(
                f"layer {number!r}: the encoder has 0 to {self.layers}, or counted from the last -1, -2 ..."
            )
        return number % (self.layers + 1)

    def prepare(self, image: Image) -> np.ndarray:
        """What the encoder sees of an image, u8[S, S, 3].

        Raises OSError where a file cannot be read, and `data.images.BadImage` where it is no image.
        """
        return batching.prepare(image, self.loaded.config.image)

    def rows(self, images: int) -> int:
        """Rows of the batches that so many images are encoded in."""
        return batching.batch_rows(images, self._batch_size, sharding.batch_ways(self.loaded.mesh))

    def __call__(self, images: Sequence[Image], kind: str = "pooled", layer: int = -1) -> np.ndarray:
        """Encodes images: "pooled" f32[B, D], the mean of the "tokens" f32[B, N, D].

        Layer 0 is what enters the first block, i what leaves the i-th; the last (-1), after the encoder's final
        LayerNorm, is what the decoder sees. Raises ConfigError for another kind or layer, and as `prepare` does.
        """
        return self._run(self.function(kind, layer), images)

    def stream(
        self,
        images: Sequence[Image],
        kind: str = "pooled",
        layer: int = -1,
        *,
        rows: int,
        on_fault: batching.OnFault,
    ) -> Iterator[np.ndarray]:
        """As a call, a batch of `rows` images after the other; see `batching.stream` for those that are bad."""
        return batching.stream(self.loaded, self.function(kind, layer), images, rows=rows, on_fault=on_fault)

    def function(self, kind: str = "pooled", layer: int = -1) -> batching.Function:
        """What a call runs on each batch; raises ConfigError for another kind or layer."""
        if kind not in KINDS:
            raise ConfigError(f'features "{kind}": choose one of {", ".join(KINDS)}')
        return functools.partial(_encode, kind=kind, layer=self.layer(layer))

    def _run(
        self,
        fn: batching.Function,
        images: Sequence[Image],
        seed: int = 0,
        more: Mapping[str, np.ndarray] = MappingProxyType({}),
    ) -> Any:
        """Runs `fn` on all images and joins the trees that it returns; see `batching.stream`."""
        return jax.tree.map(lambda *parts: np.concatenate(parts), *self._batches(fn, images, seed, more))

    def _batches(
        self,
        fn: batching.Function,
        images: Sequence[Image],
        seed: int = 0,
        more: Mapping[str, np.ndarray] = MappingProxyType({}),
        on_fault: batching.OnFault = batching.raising,
    ) -> Iterator[Any]:
        """As `_run`, a batch after the other."""
        check_list(images)
        rows = self.rows(len(images))
        return batching.stream(self.loaded, fn, images, rows=rows, seed=seed, more=more, on_fault=on_fault)


load = Encoder.load


def _is_whole(number: object) -> bool:
    """Whether it is a whole number, of numpy too."""
    try:
        operator.index(number)
    except TypeError:
        return False
    return not isinstance(number, bool)


def is_list(values: object) -> bool:
    """Whether values have a number and an order, as lists, tuples and arrays have, and are no text."""
    ordered = hasattr(values, "__len__") and hasattr(values, "__getitem__")
    return ordered and not isinstance(values, str | bytes | Mapping)


def check_list(images: Sequence[Image]) -> None:
    """Raises ValueError for what is no list of images, or an empty one."""
    one = isinstance(images, str | bytes | os.PathLike | PIL.Image.Image) or getattr(images, "ndim", 4) == 3
    if one or not is_list(images):
        given = "one image" if one else f"a {type(images).__name__}"
        raise ValueError(f"give a list of images, also where it is one, not {given}")
    if not len(images):
        raise ValueError("there is no image")


@functools.partial(jax.jit, static_argnums=0, static_argnames=("kind", "layer"))
def _encode(
    objective: Objective, params: Params, batch: Features, key: jax.Array, *, kind: str, layer: int
) -> jax.Array:
    found = objective.encode(params, batch["image"])
    if layer == len(found["blocks"]):
        return found[kind]
    tokens = found["blocks"][layer - 1] if layer else found["stem"]
    return tokens.mean(1) if kind == "pooled" else tokens
