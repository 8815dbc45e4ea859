"""What a training step holds in the memory of a device, and whether activations have to be computed again."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.extend
import numpy as np

from mdc_jax.config import sections
from mdc_jax.data.batch import LABEL_PREFIX
from mdc_jax.objectives.base import Objective
from mdc_jax.objectives.sizes import compute_dtype, loops_over_layers
from mdc_jax.training import build, distributed, sharding
from mdc_jax.training import state as train_state
from mdc_jax.training.optimizer import Rules, make_optimizer, trainable

# What layers one after the other keep on a GPU, as a multiple of what a loop keeps, by the compiler's account on an
# H200 (benchmarks/README.md): 1.77 of B/16 with 128 images, 1.81 with 1,024, and 1.85 of L/14 with 128.
_UNROLLED = 1.85
_USABLE = 0.9  # of the memory; the rest is for batches, the workspace of kernels, and fragments


# Bytes that programs have, by the device kinds of JAX, where there is no device to ask: what the compiler of
# libtpu 0.0.42 states where it refuses a program.
_CAPACITIES: Mapping[str, float] = {
    "TPU v5 lite": 15.75 * 2**30,
    "TPU v5": 95.74 * 2**30,
    "TPU v6 lite": 31.25 * 2**30,
    "TPU7x": 94.75 * 2**30,
}


def capacity(device: jax.Device) -> float | None:
    """Bytes of a device that programs have; None where that is not known, as of CPUs."""
    try:
        stats = device.memory_stats()
    except jax.errors.JaxRuntimeError:  # a device of a topology, for which programs can only be compiled
        return _CAPACITIES.get(device.device_kind)
    return (stats or {}).get("bytes_limit")


def with_remat(config: sections.Config, vocab_size: int, mesh: jax.sharding.Mesh) -> tuple[sections.Config, str]:
    """The config with `model.remat` decided where it is "auto", and a line that says why, else an empty one.

    It is on where the step would not fit without. Where the memory is not known, as on CPUs, it is off.
    """
    if config.model.remat != "auto":
        return config, ""
    device = next(device for device in mesh.devices.flat if device.process_index == jax.process_index())
    limit = capacity(device)
    if limit is None:
        return _set(config, remat="off"), f"remat off: the memory of a {device.device_kind} is not known"
    without, with_ = estimate(config, vocab_size, mesh)
    # Hosts whose memory differs by a little must run the same program.
    choice = "on" if distributed.any_process(without > _USABLE * limit) else "off"
    return _set(config, remat=choice), (
        f"remat {choice}: a step takes about {without / 1e9:.1f} GB a device without, {with_ / 1e9:.1f} GB with, "
        f"of {limit / 1e9:.1f} GB"
    )


def estimate(config: sections.Config, vocab_size: int, mesh: jax.sharding.Mesh) -> tuple[float, float]:
    """Bytes of a device in a training step (without, with) rematerialisation.

    They are the state, the gradients of what is not frozen, with accumulation also their sum, and what the backward
    pass of a micro-batch keeps; in a loop over layers, or with rematerialisation, also about what one layer holds while
    it is computed again, and the parameters in the dtype of the computation, which compilers make once. Activations are
    counted as if `mesh.tensor` split none of them, and the pairs that contrastive objectives compare as if they were
    those of a device's micro-batch, not of its rows with the whole batch.

    The compiler of TPUs plans up to 7.5% more, and less with fsdp and of small models (configs/results/dry_compile.csv:
    12.8 GB for 12.0 of `vitb_recap`, 12.6 for 11.8 of `vitl_recap`, 3.3 for 3.2 of `vits_cc3m`, 2.0 for 2.3 with fsdp,
    5.8 for 5.9 of `cappa`); that of GPUs 14.6 for 15.1 of B/16 with 128 images.
    """
    one = sharding.make_mesh(sections.Mesh(), jax.local_devices()[:1])
    off, on, unrolled = (
        build.objective(_set(config, **settings), vocab_size, one)
        for settings in ({"remat": "off", "scan": "on"}, {"remat": "on"}, {"remat": "off", "scan": "off"})
    )
    optimizer = make_optimizer(config.optimizer, lambda _: config.optimizer.lr)
    init = train_state.make_init(off, optimizer, seed=config.seed, ema=config.optimizer.ema > 0)
    state = train_state.sharded(init, mesh)
    rules = config.optimizer.lr_multipliers
    trained = _trained(rules, state.params)
    gradients = 2 if config.optimizer.accumulation > 1 else 1
    # That of the output layer is among what the forward pass keeps: see `weighted_cross_entropy`.
    head = trained.get("decoder", {}).get("head", {})
    fixed = bytes_on_a_device(state) + gradients * bytes_on_a_device(trained) - bytes_on_a_device(head)
    rows = config.data.batch_size // (sharding.batch_ways(mesh) * config.optimizer.accumulation)
    batch = batch_shapes(config, rows)
    kept, inputs, all_ = (kept_bytes(objective, batch, rules) for objective in (off, on, unrolled))
    # Beside towers there may be scalars, as the temperature of contrastive objectives.
    towers = [part["blocks"] for part in trained.values() if isinstance(part, Mapping) and "blocks" in part]
    stacks = [leaves[0] for leaves in map(jax.tree.leaves, towers) if leaves]  # one of each that is not frozen
    layers = max((leaf.shape[0] for leaf in stacks), default=1)  # about: as if the deepest tower kept all
    dtype = compute_dtype(config.model.dtype)
    cast = 0 if dtype == "float32" else bytes_on_a_device(state.params) * dtype.itemsize / 4
    with_ = fixed + inputs + cast + (all_ - inputs) / layers
    if not loops_over_layers(config.model.scan):
        return fixed + _UNROLLED * kept, with_
    return fixed + kept + cast + (all_ - kept) / layers, with_


def kept_bytes(objective: Objective, batch: Mapping[str, jax.ShapeDtypeStruct], rules: Rules = ()) -> int:
    """Bytes that the backward pass of a batch keeps of the forward pass, parameters left out; computes nothing.

    `rules` say what is frozen, as `optimizer.multipliers` has them: nothing is kept for that alone.
    """

    def backward(params: Any, batch: Mapping[str, jax.Array], key: jax.Array) -> Any:
        corrupted = objective.thin(objective.corrupt(batch, key), key)

        def loss(trained: Any) -> jax.Array:
            whole = jax.tree.map(lambda t, p: p if t is None else t, trained, params, is_leaf=lambda t: t is None)
            return objective.loss(whole, corrupted)[0]

        return jax.vjp(loss, _trained(rules, params))[1]

    params, key = jax.eval_shape(objective.init, jax.random.key(0)), jax.random.key(0)
    jaxpr = jax.make_jaxpr(backward)(params, batch, key).jaxpr
    kept = {var for var in jaxpr.outvars if isinstance(var, jax.extend.core.Var)} - set(jaxpr.invars)
    return sum(var.aval.size * var.aval.dtype.itemsize for var in kept)


def _trained(rules: Rules, params: Any) -> Any:
    """The parameters with None for those that are frozen."""
    return jax.tree.map(lambda moves, param: param if moves else None, trainable(rules, params), params)


def bytes_on_a_device(tree: Any) -> int:
    """Bytes of a device of a (possibly abstract) tree with shardings."""
    return sum(
        int(np.prod(leaf.sharding.shard_shape(leaf.shape))) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree)
    )


def describe(state: Any) -> str:
    """One line: bytes of a state that are split over devices, that each has whole, and that each has in all."""
    sizes = [(leaf.size * leaf.dtype.itemsize, leaf.sharding.is_fully_replicated) for leaf in jax.tree.leaves(state)]
    split, whole = (sum(size for size, replicated in sizes if replicated is is_whole) for is_whole in (False, True))
    return (
        f"state: {split / 1e6:,.1f} MB split over devices, {whole / 1e6:,.1f} MB whole on each: "
        f"{bytes_on_a_device(state) / 1e6:,.1f} MB a device"
    )


def batch_shapes(config: sections.Config, rows: int) -> dict[str, jax.ShapeDtypeStruct]:
    """A batch of so many rows as the data has it, without arrays; with data.buckets, the longest."""
    data, size = config.data, config.image.size
    return {
        "image": jax.ShapeDtypeStruct((rows, size, size, 3), "uint8"),
        "text": jax.ShapeDtypeStruct((rows, data.captions_per_image, data.max_tokens), "int32"),
        "length": jax.ShapeDtypeStruct((rows, data.captions_per_image), "int32"),
        "_mask": jax.ShapeDtypeStruct((rows,), "bool"),
        **{LABEL_PREFIX + name: _label(rows, *about) for name, *about, _ in getattr(config.objective, "families", ())},
    }


def _label(rows: int, kind: str, names: int) -> jax.ShapeDtypeStruct:
    return (
        jax.ShapeDtypeStruct((rows, names), "uint8") if kind == "presence" else jax.ShapeDtypeStruct((rows,), "int32")
    )


def _set(config: sections.Config, **settings: str) -> sections.Config:
    return dataclasses.replace(config, model=dataclasses.replace(config.model, **settings))
