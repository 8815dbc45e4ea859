"""What a dry compile found, as text and as a row of a table."""

from collections.abc import Mapping

from etils import epath

from mdc_jax.config import ConfigError
from mdc_jax.report import tables
from mdc_jax.training import accounting, collectives, memory, sharding
from mdc_jax.training.dry_compile import Compiled, Plan

_NOTHING = collectives.Traffic(0, 0)


def text(plan: Plan) -> str:
    """Everything about a plan, ending in whether it fits and else what would help."""
    config, mesh = plan.config, plan.mesh
    shape = " x ".join(f"{axis}={size}" for axis, size in mesh.shape.items())
    peak = accounting.peak(plan.device_kind)
    lines = [
        f"{config.objective.name}, {accounting.describe(plan.state.params)}, "
        f"{mesh.size} x {plan.device_kind} ({plan.target}), mesh {shape}",
        f"{config.data.batch_size} images a step, {config.optimizer.accumulation} micro-batches, {config.model.dtype}",
        plan.why_remat or f"remat {config.model.remat}",
        memory.describe(plan.state),
        f"arithmetic: {plan.flops:.3g} FLOP a step where every token has a loss"
        + (f", {plan.flops / (mesh.size * peak):.2g} s at the peak of the devices" if peak else ""),
    ]
    if isinstance(plan.compiled, str):
        return "\n".join([*lines, f"verdict: {verdict(plan)}", "what would help:", *_changes(plan)])
    details = _details(plan.compiled, plan.least)
    return "\n".join([*lines, *details, f"compiled in {plan.seconds:.0f} s", f"verdict: {verdict(plan)}"])


def row(plan: Plan) -> dict[str, tables.Cell]:
    """The numbers of a plan by column; of one that does not fit, only those that are known."""
    config, found = plan.config, plan.compiled
    known = not isinstance(found, str)
    return {
        "topology": plan.target,
        "mesh": "x".join(str(size) for size in plan.mesh.shape.values()),
        "batch_size": config.data.batch_size,
        "accumulation": config.optimizer.accumulation,
        "dtype": config.model.dtype,
        "remat": config.model.remat,
        "step_flops": f"{plan.flops:.4g}",
        "arguments_bytes": found.arguments if known else "",
        "temporaries_bytes": found.temporaries if known else "",
        "peak_bytes": found.peak if known else "",
        "capacity_bytes": "" if plan.capacity is None else int(plan.capacity),
        "collectives": " ".join(f"{kind}:{t.count}:{t.bytes}" for kind, t in found.traffic.items()) if known else "",
        "sent_bytes": _sent(found) if known else "",
        "least_bytes": collectives.sent(plan.least),
        "compile_seconds": round(plan.seconds),
        "verdict": "compiles" if known and plan.capacity is None else "fits" if known else found,
    }


def write(path: epath.Path, plan: Plan, command: str) -> None:
    """Adds the row of a plan to a CSV file, in place of an earlier one of that command.

    Raises ConfigError for a file with other columns.
    """
    new = {"command": command, **row(plan)}
    rows = tables.read_csv(path) if path.exists() else []
    if rows and rows[0].keys() != new.keys():
        raise ConfigError(f"--out={path} has other columns: give another file")
    kept = [list(old.values()) for old in rows if old["command"] != command]
    tables.write_csv(path, list(new), [*kept, list(new.values())])


def _sent(compiled: Compiled) -> int:
    return collectives.sent({kind: traffic.bytes for kind, traffic in compiled.traffic.items()})


def _details(compiled: Compiled, least: Mapping[str, int]) -> list[str]:
    memory_line = (
        f"memory a device: {compiled.arguments / 1e6:,.0f} MB arguments + {compiled.temporaries / 1e6:,.0f} MB "
        f"temporaries + {compiled.outputs / 1e6:,.0f} MB outputs - {compiled.in_place / 1e6:,.0f} MB of these in the "
        f"arguments' place = {compiled.peak / 1e6:,.0f} MB"
    )
    kinds = dict.fromkeys([*compiled.traffic, *least])
    if not kinds:
        return [memory_line, "collectives: none"]
    rows = []
    for kind in kinds:
        count, size = compiled.traffic.get(kind, _NOTHING)
        rows.append([kind, f"{count:,}", f"{size / 1e6:,.1f}", f"{least.get(kind, 0) / 1e6:,.1f}"])
    total, minimum = _sent(compiled) / 1e6, collectives.sent(least) / 1e6
    rows.append(["together, all-reduce twice", "", f"{total:,.1f}", f"{minimum:,.1f}"])
    return [memory_line, tables.markdown(["collective", "a step", "MB", "least MB"], rows).rstrip()]


def verdict(plan: Plan) -> str:
    """Whether a step fits."""
    if isinstance(plan.compiled, str):
        return f"does not fit: {plan.compiled}"
    if plan.device_kind == "cpu":
        return "it compiles; memory and collectives are those of CPUs, those of GPUs and TPUs differ"
    if plan.capacity is None:
        return f"the compiler accepts it; the memory of a {plan.device_kind} is not listed"
    return f"fits, in {plan.compiled.peak / plan.capacity:.0%} of {plan.capacity / 1e9:.1f} GB"


def _changes(plan: Plan) -> list[str]:
    """What to change so that a step fits, that which costs least first."""
    config, mesh = plan.config, plan.mesh
    ways, parts = sharding.batch_ways(mesh), config.optimizer.accumulation
    fixed = memory.bytes_on_a_device(plan.state) + memory.bytes_on_a_device(plan.state.params)
    changes = []
    if plan.capacity and fixed > plan.capacity / 2 and mesh.shape["data"] > 1:
        changes.append(
            f"--config.mesh.data=1 --config.mesh.fsdp={ways}: state and gradients take {fixed / 1e9:.1f} GB of a device"
        )
    if config.model.remat == "off":
        changes.append("--config.model.remat=on: activations are computed again, for a third more arithmetic")
    if config.data.batch_size % (2 * parts * ways) == 0:
        changes.append(f"--config.optimizer.accumulation={2 * parts}: half the activations, and the same result")
    if config.data.batch_size > ways * parts:
        smaller = max(config.data.batch_size // (2 * ways * parts), 1) * ways * parts
        changes.append(f"--config.data.batch_size={smaller}: another run, with a learning rate of its own")
    return [f"  {change}" for change in (*changes, "more devices")]
