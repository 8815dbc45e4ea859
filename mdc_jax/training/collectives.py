"""What a compiled program sends between its devices, and the least that a training step has to.

Bytes are those of the whole array on one device: what an all-gather makes, a reduce-scatter takes, an
all-reduce takes and makes. An all-reduce is a reduce-scatter and an all-gather, and counts twice where
all are added up (ZeRO, arXiv 1910.02054, section 7).
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

_KINDS = "all-reduce|all-gather|reduce-scatter|ragged-all-to-all|all-to-all|collective-permute"
_INSTRUCTION = re.compile(r"\s*(?:ROOT )?%?([\w.-]+) = (.*?) ([a-z][\w-]*)\((.*)")
_CALLED = re.compile(r"(?:calls|to_apply|body|true_computation|false_computation)=%?([\w.-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_BITS = {"pred": 8, "token": 0}


class Traffic(NamedTuple):
    count: int  # in a run of the program
    bytes: int  # of all of them, see above


def read(hlo: str) -> dict[str, Traffic]:
    """Collectives by kind, from the text of a compiled program (`jax.stages.Compiled.as_text`).

    Those in a loop count as often as it runs, once where only the run can tell, as with chunks of predicted tokens.
    """
    computations, entry = _computations(hlo)
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    seen: set[tuple[str, str]] = set()

    def walk(name: str, times: int) -> None:
        sizes: dict[str, int] = {}
        for line in computations.get(name, ()):
            match = _INSTRUCTION.match(line)
            if not match:
                continue
            result, type_, op, rest = match.groups()
            sizes[result] = _bytes(type_)
            kind = re.fullmatch(rf"({_KINDS})(-start)?", op)
            if kind and not _again(rest, seen):
                taken = sum(sizes.get(operand, 0) for operand in re.findall(r"%([\w.-]+)", rest.partition(")")[0]))
                made = sizes[result]
                if kind[2] and kind[1] != "all-reduce":  # it hands on what it takes, beside what it makes
                    made -= taken
                # The TPU compiler writes a reduce-scatter as an all-reduce of which a part is kept.
                entry = found["reduce-scatter" if name.startswith("all-reduce-scatter") else kind[1]]
                entry[0] += times
                entry[1] += times * max(taken, made)
            for called in _called(rest):
                walk(called, times * (_trips(rest, computations) if op == "while" else 1))

    walk(entry, 1)
    return {kind: Traffic(*numbers) for kind, numbers in sorted(found.items())}


def least(params: Any, mesh: jax.sharding.Mesh, itemsize: int) -> dict[str, int]:
    """Bytes by kind that a step has to send for its parameters, of `itemsize` bytes in the computation.

    Of a parameter that fsdp splits: its all-gather before the forward and before the backward pass, the
    reduce-scatter of its gradient, and over `data` the all-reduce of the part of the gradient that a device keeps.
    Of another: the all-reduce of its gradient over data x fsdp. Each device has a part of what `tensor` splits; the
    activations that this axis sums are not counted, nor embeddings that are compared over all devices.

    Args:
      params: abstract, each leaf with its sharding.
      mesh: that they are on.
      itemsize: of numbers that are sent, usually those of a dtype narrower than the parameters.
    """
    data, fsdp = mesh.shape["data"], mesh.shape["fsdp"]
    total: dict[str, int] = defaultdict(int)
    for leaf in jax.tree.leaves(params):
        own = int(np.prod(leaf.sharding.shard_shape(leaf.shape))) * itemsize
        if "fsdp" in leaf.sharding.spec and fsdp > 1:
            total["all-gather"] += 2 * fsdp * own
            total["reduce-scatter"] += fsdp * own
            total["all-reduce"] += own * (data > 1)
        else:
            total["all-reduce"] += own * (data * fsdp > 1)
    return {kind: size for kind, size in sorted(total.items()) if size}


def sent(by_kind: Mapping[str, int]) -> int:
    """Bytes of all kinds together, an all-reduce counted twice."""
    return sum(size * (2 if kind == "all-reduce" else 1) for kind, size in by_kind.items())


def _computations(hlo: str) -> tuple[dict[str, list[str]], str]:
    """The lines of each computation, and the name of the one that the program starts with."""
    computations: dict[str, list[str]] = {}
    entry = current = ""
    for line in hlo.splitlines():
        head = re.match(r"(ENTRY )?%?([\w.-]+) \(.*\{$", line)
        if head:
            current = head[2]
            computations[current] = []
            entry = current if head[1] else entry
        elif current:
            computations[current].append(line)
    return computations, entry


def _called(rest: str) -> Iterable[str]:
    names = _CALLED.findall(rest)
    for branches in _BRANCHES.findall(rest):
        names += re.findall(r"%?([\w.-]+)", branches)
    return names


def _again(rest: str, seen: set[tuple[str, str]]) -> bool:
    """Whether this is another piece of a collective that the TPU compiler cut up to run beside arithmetic."""
    channel, chain = re.search(r"channel_id=(\d+)", rest), re.search(r'chain_id="(\d+)"', rest)
    if not channel or not chain:
        return False
    key = channel[1], chain[1]
    again = key in seen
    seen.add(key)
    return again


def _trips(rest: str, computations: Mapping[str, list[str]]) -> int:
    """How often a loop runs: as the compiler says, or as the one constant that the condition compares with."""
    if known := re.search(r'known_trip_count"?:\{"?n"?:"?(\d+)', rest):
        return int(known[1])
    condition = re.search(r"condition=%?([\w.-]+)", rest)
    constants = re.findall(r" constant\((\d+)\)", "\n".join(computations.get(condition[1], ()))) if condition else []
    return int(constants[0]) if len(constants) == 1 else 1


def _bytes(type_: str) -> int:
    """Of an array or a tuple as HLO writes its type; semaphores and scalars of a few bytes are counted too."""
    total = 0
    for name, shape in re.findall(r"(\w+?)\[([\d,]*)\]", type_):
        bits = _BITS.get(name) or int((re.findall(r"\d+", name) or [0])[0])
        total += bits * int(np.prod([int(size) for size in shape.split(",") if size])) // 8
    return total
