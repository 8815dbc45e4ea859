"""Images of any form through a function of a model, in batches, while threads prepare the next one.

The device is given a batch before the results of the one before are fetched, so that neither it nor the host waits
for the other.

Shapes: B images of a batch, S pixels.
"""

import concurrent.futures
import math
import operator
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
import PIL.Image

from mdc_jax.config import ConfigError, sections
from mdc_jax.data import images as pixels
from mdc_jax.objectives.base import Features, Objective, Params
from mdc_jax.training import checkpoint, sharding

# A file's name, its bytes, pixels u8[H, W, 3], or a PIL image.
Image = str | os.PathLike[str] | bytes | np.ndarray | PIL.Image.Image

# (objective, params, {"image": u8[B, S, S, 3], ...}, key) → a tree of arrays with B rows; compiled by whoever gives it.
Function = Callable[[Objective, Params, Features, jax.Array], Any]

OnFault = Callable[[int, BaseException], None]  # is told the index of an image and what is wrong with it

_THREADS = min(os.cpu_count() or 1, 32)


def prepare(image: Image, settings: sections.Image, out: np.ndarray | None = None) -> np.ndarray:
    """What the encoder sees of an image, u8[S, S, 3], in `out` where that is given.

    Raises OSError where a file cannot be read, `data.images.BadImage` where it is no image, and TypeError for anything
    else.
    """
    if isinstance(image, str | os.PathLike):
        image = pixels.read(image)
    elif isinstance(image, PIL.Image.Image):
        image = pixels.of_picture(image)
    elif isinstance(image, jax.Array):
        image = jax.device_get(image)
    elif not isinstance(image, bytes | np.ndarray):
        raise TypeError(f"an image is a path, bytes, an array or a PIL image, not {type(image).__name__}")
    return pixels.prepare(image, settings, out=out)


def batch_rows(images: int, most: int, ways: int) -> int:
    """Rows of the batches for so many images: of few sizes, since a program is compiled for each.

    A power of two for each of `ways`, or `most`, rounded up to a multiple of `ways`.
    """
    return min(-(-most // ways) * ways, ways * 2 ** math.ceil(math.log2(-(-images // ways))))


def raising(index: int, error: BaseException) -> None:
    """Raises what is wrong with an image."""
    error.add_note(f"image {index} of those that were given")
    raise error


def stream(
    loaded: checkpoint.Loaded,
    fn: Function,
    images: Sequence[Image],
    *,
    rows: int,
    seed: int = 0,
    more: Mapping[str, np.ndarray] = MappingProxyType({}),
    on_fault: OnFault = raising,
) -> Iterator[Any]:
    """Yields what `fn` returns for each batch, as numpy arrays; no more than three batches exist at a time.

    Args:
      loaded: the model.
      fn: see `Function`.
      images: in any form.
      rows: of a batch, as `batch_rows` finds them; the last batch is filled up for `fn`, and cut again.
      seed: of the keys, one for each batch, in 0 ... 2^32 - 1.
      more: what `fn` takes beside images, a row for each.
      on_fault: is told which image cannot be prepared, and why (see `prepare`), before the results of its batch come.
        Where it does not raise, the image has no row in these.

    Raises:
      ConfigError: such a seed is none.
    """
    if not hasattr(seed, "__index__") or not 0 <= operator.index(seed) < 2**32:
        raise ConfigError(f"seed={seed!r}: give a whole number from 0 to 2^32 - 1")
    pending = None
    for start, batch, faults in _prepared(images, loaded.config.image, rows):
        for row, error in faults.items():
            on_fault(start + row, error)
        kept = [row for row in range(min(rows, len(images) - start)) if row not in faults]
        given = {name: _filled_up(value[start : start + rows], rows) for name, value in more.items()}
        inputs = sharding.to_global({"image": batch, **given}, loaded.mesh, rows)
        found = fn(loaded.objective, loaded.params, inputs, jax.random.fold_in(jax.random.key(seed), start))
        if pending is not None:
            yield _fetched(*pending)
        pending = found, kept
    if pending is not None:
        yield _fetched(*pending)


def _prepared(
    images: Sequence[Image], settings: sections.Image, rows: int
) -> Iterator[tuple[int, np.ndarray, dict[int, BaseException]]]:
    """Yields the index of the first image of a batch, u8[rows, S, S, 3], and what is wrong with which row."""
    pool = concurrent.futures.ThreadPoolExecutor(_THREADS, "prepare")

    def begin(start: int) -> tuple[np.ndarray, list[concurrent.futures.Future]]:
        batch = np.zeros((rows, settings.size, settings.size, 3), np.uint8)
        some = zip(images[start : start + rows], batch, strict=False)
        return batch, [pool.submit(prepare, image, settings, row) for image, row in some]

    try:
        following = begin(0)
        for start in range(0, len(images), rows):
            (batch, prepared), following = following, begin(start + rows)
            faults = {row: error for row, each in enumerate(prepared) if (error := each.exception()) is not None}
            yield start, batch, faults
    finally:
        pool.shutdown(cancel_futures=True)


def _fetched(found: Any, kept: Sequence[int]) -> Any:
    return jax.tree.map(lambda rows: rows[np.asarray(kept, int)], jax.device_get(found))


def _filled_up(values: np.ndarray, rows: int) -> np.ndarray:
    """The first row stands where there are too few."""
    return np.concatenate([values, np.repeat(values[:1], rows - len(values), axis=0)])
