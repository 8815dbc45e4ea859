"""Where every array lives: a mesh of (data, fsdp, tensor) and rules from parameter names to its axes.

The batch is split over data x fsdp. A parameter is split over fsdp and tensor as its rule says;
the leading axis of stacked layers never is. Optimizer state and averaged parameters follow the
parameter whose path they end in; row and column means of second moments are small and whole everywhere.
"""

import bisect
import functools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from mdc_jax.config import ConfigError, sections
from mdc_jax.ops.cross_entropy import Split

AXES = ("data", "fsdp", "tensor")
BATCH = PartitionSpec(("data", "fsdp"))

# The first rule that matches wins, and one must. [layers, in, out] for kernels within blocks.
RULES: tuple[tuple[str, PartitionSpec], ...] = (
    (r"(^|/)v_(row|col)/", PartitionSpec()),
    (r"blocks/.*/(query|key|value|up)/kernel$", PartitionSpec(None, "fsdp", "tensor")),
    (r"blocks/.*/(query|key|value|up)/bias$", PartitionSpec(None, "tensor")),
    (r"blocks/.*/(out|down)/kernel$", PartitionSpec(None, "tensor", "fsdp")),
    (r"blocks/.*/(bias|scale)$", PartitionSpec()),
    (r"encoder/patch/kernel$", PartitionSpec(None, "fsdp")),
    (r"(decoder|text_encoder)/embedding$", PartitionSpec(None, "fsdp")),
    (r"decoder/head/kernel$", PartitionSpec("fsdp", "tensor")),
    (r"decoder/head/bias$", PartitionSpec("tensor")),
    (r"projection/(image|text)/kernel$", PartitionSpec("fsdp", "tensor")),
    (r"heads/[^/]+/kernel$", PartitionSpec("fsdp")),
    (r"(^|/)(positions|class_token|null_memory|bias|scale)$", PartitionSpec()),
)


def make_mesh(section: sections.Mesh, devices: Sequence[jax.Device] | None = None) -> jax.sharding.Mesh:
    """Builds the mesh over all devices; one axis of `section` may be -1 and takes what is left.

    Raises ConfigError where the product of the axes is not the number of devices.
    """
    devices = list(devices or jax.devices())
    shape = [section.data, section.fsdp, section.tensor]
    given = math.prod(size for size in shape if size != -1)
    free = [axis for axis, size in zip(AXES, shape, strict=True) if size == -1]
    if len(free) == 1 and given > 0 and len(devices) % given == 0:
        shape[AXES.index(free[0])] = len(devices) // given
    elif len(free) > 0 or given != len(devices) or min(shape) < 1:
        asked = " x ".join(f"{axis}={size}" for axis, size in zip(AXES, shape, strict=True))
        if len(free) > 1 or any(size < 1 and size != -1 for size in shape):
            needed = "positive numbers, and -1 at most once"
        else:
            needed = f"a multiple of {given}" if free else str(given)
        fitting = ", ".join(f"mesh.{axis}={size}" for axis, size in _nearest(section, len(devices)).items())
        raise ConfigError(
            f"mesh {asked} needs {needed}; there are {len(devices)} devices: {fitting} fits, "
            "and one axis may be -1, which takes what is left"
        )
    return jax.make_mesh(tuple(shape), AXES, axis_types=(jax.sharding.AxisType.Auto,) * 3, devices=devices)


def _nearest(section: sections.Mesh, devices: int) -> dict[str, int]:
    """A mesh of so many devices that keeps what it can of `section`, first the tensor axis."""
    rest = next((axis for axis in AXES if getattr(section, axis) == -1), "data")
    shape = dict.fromkeys(AXES, 1)
    for axis in reversed(AXES):
        if axis != rest:
            shape[axis] = math.gcd(max(getattr(section, axis), 1), devices // math.prod(shape.values()))
    return {**shape, rest: devices // math.prod(shape.values())}


def batch_ways(mesh: jax.sharding.Mesh) -> int:
    """The number of parts that a batch is split into."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def check_batch(batch_size: int, accumulation: int, mesh: jax.sharding.Mesh) -> None:
    """Raises ConfigError where a micro-batch cannot be split evenly over the mesh."""
    ways = batch_ways(mesh)
    unit = ways * accumulation
    if batch_size % unit:
        raise ConfigError(
            f"data.batch_size={batch_size} does not fit the mesh: it must be a multiple of {unit} "
            f"(mesh data x fsdp = {ways}, optimizer.accumulation = {accumulation}); "
            f"nearest that works: {max((batch_size + (unit - 1) // 2) // unit, 1) * unit}"
        )


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: jax.sharding.Mesh) -> NamedSharding:
    return NamedSharding(mesh, BATCH)


def split(mesh: jax.sharding.Mesh) -> Split | None:
    """What an objective has to know of the mesh; nothing where it is one device."""
    return Split(mesh, BATCH[0], "tensor") if mesh.size > 1 else None


@functools.lru_cache  # every step asks
def local_rows(batch_size: int, mesh: jax.sharding.Mesh) -> tuple[int, ...]:
    """The rows of a global batch that devices of this process hold, ascending.

    They need not be neighbours, as the mesh of a TPU slice follows its torus; and where the tensor axis spans
    processes, each of these holds the same row.
    """
    held = batch_sharding(mesh).addressable_devices_indices_map((batch_size,)).values()
    return tuple(sorted({row for (rows,) in held for row in range(*rows.indices(batch_size))}))


def to_global(batch: Mapping[str, np.ndarray], mesh: jax.sharding.Mesh, batch_size: int) -> dict[str, jax.Array]:
    """Global arrays of `batch_size` rows, on the devices, of the `local_rows` that each process gives."""
    sharding, rows = batch_sharding(mesh), local_rows(batch_size, mesh)

    def joined(value: np.ndarray) -> jax.Array:
        def of_device(index: tuple[slice, ...]) -> np.ndarray:
            start, stop, _ = index[0].indices(batch_size)
            first = bisect.bisect_left(rows, start)
            return value[first : first + stop - start]

        return jax.make_array_from_callback((batch_size, *value.shape[1:]), sharding, of_device)

    # Explicit as it is, with several processes JAX takes this for an implicit transfer.
    with jax.transfer_guard("allow"):
        return {key: joined(value) for key, value in batch.items()}


def shardings(tree: Any, mesh: jax.sharding.Mesh) -> Any:
    """NamedSharding for every leaf of a (possibly abstract) tree of parameters or optimizer state.

    Raises ValueError for a parameter that no rule covers.
    """

    def sharding(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        if leaf.size == 1:  # scalars, and what stands where Adafactor keeps no moment
            return replicated(mesh)
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        for pattern, spec in RULES:
            if re.search(pattern, name):
                return NamedSharding(mesh, _fit(spec, leaf.shape, mesh))
        raise ValueError(f'no sharding rule covers "{name}" {leaf.shape}; add one to RULES in {__name__}')

    return jax.tree_util.tree_map_with_path(sharding, tree)


def _fit(spec: PartitionSpec, shape: tuple[int, ...], mesh: jax.sharding.Mesh) -> PartitionSpec:
    """Leaves a dimension whole where its mesh axis does not divide it."""
    return PartitionSpec(*(axis if axis and shape[i] % mesh.shape[axis] == 0 else None for i, axis in enumerate(spec)))
