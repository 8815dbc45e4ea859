"""Compiles the training step for devices that are not there, and reads what it would take on each.

The step is the one that the loop runs. Nothing is trained and no data is read: shapes come from the
config, and what is "auto" there is decided as on the devices.
"""

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import jax

from mdc_jax.config import sections
from mdc_jax.models import layers
from mdc_jax.objectives.base import Objective
from mdc_jax.training import build, collectives, memory, sharding, topology
from mdc_jax.training import state as train_state
from mdc_jax.training.optimizer import learning_rate

_DTYPE_BYTES = {"float32": 4, "bfloat16": 2}


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What a compiled step takes on each device, in bytes."""

    arguments: int
    temporaries: int
    outputs: int
    in_place: int  # of the outputs, those that take the place of arguments
    traffic: Mapping[str, collectives.Traffic]

    @property
    def peak(self) -> int:
        return self.arguments + self.temporaries + self.outputs - self.in_place


@dataclasses.dataclass(frozen=True)
class Plan:
    """A step on devices that are not there."""

    config: sections.Config  # with what was "auto" decided
    why_remat: str  # where that was decided
    target: str
    mesh: jax.sharding.Mesh
    device_kind: str
    capacity: float | None  # bytes of a device that programs have; None: not known
    state: train_state.State  # abstract, each leaf with its sharding
    flops: float  # of the matrix products of a step where every token has a loss
    least: Mapping[str, int]  # bytes that have to be sent, see `collectives.least`
    compiled: Compiled | str  # or why the compiler refused: the memory is too small
    seconds: float  # of compilation


def plan(config: sections.Config, target: str) -> Plan:
    """Compiles a config's step for `target`, as in "v5e:16x16" or "cpu:8".

    Args:
      config: no file that it names is opened; the vocabulary is taken to be tokenizer.vocab_size.
      target: see `topology.devices`; to be called before JAX is used.

    Raises ConfigError for a target, a mesh or a batch that cannot be.
    """
    devices = topology.devices(target)
    mesh = sharding.make_mesh(config.mesh, devices)
    sharding.check_batch(config.data.batch_size, config.optimizer.accumulation, mesh)
    if config.model.dtype == "auto":
        dtype = "float32" if devices[0].platform == "cpu" else "bfloat16"
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, dtype=dtype))
    with layers.traced_for(devices):
        config, why = memory.with_remat(config, config.tokenizer.vocab_size, mesh)
        objective = build.objective(config, config.tokenizer.vocab_size, mesh)
        schedule = learning_rate(config.optimizer, 1, 2)
        program = train_state.program(objective, config.optimizer, schedule, mesh, seed=config.seed)
        started = time.perf_counter()
        compiled = _compile(program, _batch(config, objective))
    return Plan(
        config=config,
        why_remat=why,
        target=target,
        mesh=mesh,
        device_kind=devices[0].device_kind,
        capacity=memory.capacity(devices[0]),
        state=program.abstract,
        flops=objective.flops(config.data.captions_per_image)["train"] * config.data.batch_size,
        least=collectives.least(program.abstract.params, mesh, _DTYPE_BYTES[config.model.dtype]),
        compiled=compiled,
        seconds=time.perf_counter() - started,
    )


def _batch(config: sections.Config, objective: Objective) -> dict[str, jax.ShapeDtypeStruct]:
    shapes = memory.batch_shapes(config, config.data.batch_size)
    return {key: shapes[key] for key in {*objective.batch_keys, "_mask"}}


def _compile(program: train_state.Program, batch: Mapping[str, Any]) -> Compiled | str:
    try:
        compiled = program.step.lower(program.abstract, batch).compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return str(error).splitlines()[0]
    sizes = compiled.memory_analysis()
    return Compiled(
        sizes.argument_size_in_bytes,
        sizes.temp_size_in_bytes,
        sizes.output_size_in_bytes,
        sizes.alias_size_in_bytes,
        collectives.read(compiled.as_text()),
    )
