"""Compiles the training step for devices that are not there, and says what it would take on each.

The step is the one that the loop runs. Nothing is trained and no data is read: shapes come from the
config, and what is "auto" there is decided as on the devices.
"""

import dataclasses
import re
import shlex
import time
from collections.abc import Sequence
from typing import Any

import jax
from etils import epath

from mdc_jax.config import ConfigError, sections
from mdc_jax.objectives.base import Objective
from mdc_jax.report import tables
from mdc_jax.training import accounting, checkpoint, collectives, memory, sharding, topology
from mdc_jax.training import state as train_state
from mdc_jax.training.optimizer import learning_rate

_DTYPE_BYTES = {"float32": 4, "bfloat16": 2}


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a step takes on each device, in bytes; a program that the compiler refused has only `refused`."""

    arguments: int = 0
    temporaries: int = 0
    outputs: int = 0
    in_place: int = 0  # of the outputs, those that take the place of arguments
    traffic: dict[str, collectives.Traffic] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0  # of compilation
    refused: str = ""

    @property
    def peak(self) -> int:
        return self.arguments + self.temporaries + self.outputs - self.in_place

    @property
    def sent(self) -> int:
        return collectives.sent({kind: traffic.bytes for kind, traffic in self.traffic.items()})


def run(config: sections.Config, target: str, out: epath.PathLike = "", *, arguments: Sequence[str] = ()) -> str:
    """Compiles a config's step for `target`, as in "v5e:16x16" or "cpu:8", and returns what is to be said.

    Args:
      config: no file that it names is opened; the vocabulary is taken to be tokenizer.vocab_size.
      target: see `topology.devices`; to be called before JAX is used.
      out: a CSV file that gets a row, or "".
      arguments: those of the command, which name the row; one of the same arguments is replaced.

    Raises ConfigError for a target, a mesh or a batch that cannot be.
    """
    devices = topology.devices(target)
    mesh = sharding.make_mesh(config.mesh, devices)
    sharding.check_batch(config.data.batch_size, config.optimizer.accumulation, mesh)
    if config.model.dtype == "auto":
        dtype = "float32" if devices[0].platform == "cpu" else "bfloat16"
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, dtype=dtype))
    config, why = memory.with_remat(config, config.tokenizer.vocab_size, mesh)
    objective = checkpoint.build_objective(config, config.tokenizer.vocab_size, mesh)
    schedule = learning_rate(config.optimizer, 1, 2)
    program = train_state.program(objective, config.optimizer, schedule, mesh, seed=config.seed)
    plan = _compile(program, config, objective)
    least = collectives.least(program.abstract.params, mesh, _DTYPE_BYTES[config.model.dtype])
    capacity = memory.capacity(devices[0])
    if out:
        row = _row(config, target, mesh, objective, plan, least, capacity)
        _write(epath.Path(out), {"command": shlex.join(arguments)} | row)
    shape = " x ".join(f"{axis}={size}" for axis, size in mesh.shape.items())
    lines = [
        f"{config.objective.name}, {accounting.parameters(program.abstract.params) / 1e6:.2f} M parameters, "
        f"{mesh.size} x {devices[0].device_kind} ({target}), mesh {shape}",
        f"batch {config.data.batch_size} in {config.optimizer.accumulation} part(s), {config.model.dtype}, "
        + (why or f"remat {config.model.remat}"),
        memory.describe(program.abstract),
        _flops(objective, config, devices[0].device_kind, mesh.size),
        *([] if plan.refused else _details(plan, least)),
        _verdict(plan, capacity, devices[0].device_kind),
        *(_changes(config, mesh, program.abstract, capacity) if plan.refused else []),
    ]
    return "\n".join(lines)


def _compile(program: train_state.Program, config: sections.Config, objective: Objective) -> Plan:
    rows = config.data.batch_size
    batch = {**memory.batch_shapes(config, rows), "_stop": jax.ShapeDtypeStruct((rows,), "bool")}
    batch = {key: value for key, value in batch.items() if key in (*objective.batch_keys, "_mask", "_stop")}
    started = time.perf_counter()
    try:
        compiled = program.step.lower(program.abstract, batch).compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return Plan(refused=str(error).splitlines()[0], seconds=time.perf_counter() - started)
    seconds = time.perf_counter() - started
    sizes = compiled.memory_analysis()
    return Plan(
        sizes.argument_size_in_bytes,
        sizes.temp_size_in_bytes,
        sizes.output_size_in_bytes,
        sizes.alias_size_in_bytes,
        collectives.read(compiled.as_text()),
        seconds,
    )


def _flops(objective: Objective, config: sections.Config, device_kind: str, devices: int) -> str:
    flops = _step_flops(objective, config)
    peak = accounting.peak(device_kind)
    at_best = f", {flops / (devices * peak):.3g} s at the peak of the devices" if peak else ""
    return f"arithmetic: {flops:.3g} FLOP a step where every token has a loss{at_best}"


def _step_flops(objective: Objective, config: sections.Config) -> float:
    return objective.flops(config.data.captions_per_image)["train"] * config.data.batch_size


def _details(plan: Plan, least: dict[str, int]) -> list[str]:
    kinds = dict.fromkeys([*plan.traffic, *least])
    nothing = collectives.Traffic(0, 0)
    rows = [
        [kind, f"{traffic.count:,}", f"{traffic.bytes / 1e6:,.1f}", f"{least.get(kind, 0) / 1e6:,.1f}"]
        for kind, traffic in ((kind, plan.traffic.get(kind, nothing)) for kind in kinds)
    ]
    total = collectives.sent(least)
    rows.append(["together, all-reduce twice", "", f"{plan.sent / 1e6:,.1f}", f"{total / 1e6:,.1f}"])
    header = ["collective", "a step", "MB", "least MB"]
    return [
        f"memory a device: {plan.arguments / 1e6:,.0f} MB arguments + {plan.temporaries / 1e6:,.0f} MB temporaries "
        f"+ {plan.outputs / 1e6:,.0f} MB outputs - {plan.in_place / 1e6:,.0f} MB of these in the arguments' place "
        f"= {plan.peak / 1e6:,.0f} MB",
        *([tables.markdown(header, rows).rstrip()] if kinds else ["collectives: none"]),
        f"compiled in {plan.seconds:.0f} s",
    ]


def _verdict(plan: Plan, capacity: float | None, device_kind: str) -> str:
    if plan.refused:
        return f"verdict: does not fit: {plan.refused}"
    if capacity is None:
        return f"verdict: it compiles; whether it fits is not known for {device_kind}" + (
            "; memory and collectives are those of a CPU, and differ on GPUs and TPUs" if device_kind == "cpu" else ""
        )
    return f"verdict: fits, in {plan.peak / capacity:.0%} of {capacity / 1e9:.1f} GB"


def _changes(
    config: sections.Config, mesh: jax.sharding.Mesh, state: train_state.State, capacity: float | None
) -> list[str]:
    """What to change so that a step fits, that which costs least first."""
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    parts = config.optimizer.accumulation
    fixed = memory.bytes_on_a_device(state) + memory.bytes_on_a_device(state.params)  # and gradients
    changes = []
    if capacity and fixed > capacity / 2 and mesh.shape["data"] > 1:
        changes.append(
            f"--config.mesh.data=1 --config.mesh.fsdp={ways}: state and gradients take {fixed / 1e9:.1f} GB a device"
        )
    if config.model.remat == "off":
        changes.append("--config.model.remat=on: activations are computed again, for a third more arithmetic")
    if config.data.batch_size % (2 * parts * ways) == 0:
        changes.append(f"--config.optimizer.accumulation={2 * parts}: half the activations at a time, the same result")
    if config.data.batch_size > ways:
        smaller = max(config.data.batch_size // 2 // (ways * parts), 1) * ways * parts
        changes.append(f"--config.data.batch_size={smaller}: another run, with its own learning rate")
    changes.append("more devices")
    return ["what would help, one or several of:", *(f"  {change}" for change in changes)]


def _row(
    config: sections.Config,
    target: str,
    mesh: jax.sharding.Mesh,
    objective: Objective,
    plan: Plan,
    least: dict[str, int],
    capacity: float | None,
) -> dict[str, Any]:
    return {
        "topology": target,
        "mesh": "x".join(str(size) for size in mesh.shape.values()),
        "batch_size": config.data.batch_size,
        "accumulation": config.optimizer.accumulation,
        "dtype": config.model.dtype,
        "remat": config.model.remat,
        "flops_a_step": f"{_step_flops(objective, config):.4g}",
        "arguments_bytes": plan.arguments,
        "temporaries_bytes": plan.temporaries,
        "peak_bytes": plan.peak,
        "capacity_bytes": "" if capacity is None else int(capacity),
        "collectives": " ".join(f"{kind}:{t.count}:{t.bytes}" for kind, t in plan.traffic.items()),
        "sent_bytes": plan.sent,
        "least_bytes": collectives.sent(least),
        "compile_seconds": f"{plan.seconds:.0f}",
        "verdict": re.sub(r"^RESOURCE_EXHAUSTED: ", "", plan.refused) or ("" if capacity is None else "fits"),
    }


def _write(path: epath.Path, row: dict[str, Any]) -> None:
    rows = tables.read_csv(path) if path.exists() else []
    if rows and rows[0].keys() != row.keys():
        raise ConfigError(f"--out={path} has other columns: give another file")
    rows = [*(other for other in rows if other["command"] != row["command"]), row]
    tables.write_csv(path, list(row), [list(each.values()) for each in rows])
