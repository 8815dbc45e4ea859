"""Collectives are counted as often as they run, in the bytes of whole arrays, and set against the right least."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from mdc_jax.config import sections
from mdc_jax.training import collectives, sharding
from mdc_jax.training.collectives import Traffic

# As the compiler of TPUs writes programs: a loop without a count, one collective in two pieces, a fused reduce-scatter.
TPU = """HloModule jit_step, is_scheduled=true

%add (x: f32[], y: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%x, %y)
}

%piece.1 (p: bf16[1,64,8]) -> (bf16[1,64,8], bf16[1,128,8]) {
  %p = bf16[1,64,8]{2,1,0:T(8,128)(2,1)S(1)} parameter(0)
  %gather.1 = bf16[1,128,8]{2,1,0:T(8,128)(2,1)} all-gather(%p), channel_id=7, frontend_attributes={chain_id="1"}
  ROOT %start = (bf16[1,64,8], bf16[1,128,8]) custom-call(%gather.1), custom_call_target="AsyncCollectiveStart"
}

%piece.2 (p: bf16[1,64,8]) -> bf16[1,128,8] {
  %p = bf16[1,64,8]{2,1,0} parameter(0)
  ROOT %gather.2 = bf16[1,128,8]{2,1,0} all-gather(%p), channel_id=7, frontend_attributes={chain_id="1"}
}

%all-reduce-scatter.1 (i: f32[16,4]) -> f32[4,4] {
  %i = f32[16,4]{1,0} parameter(0)
  %all = f32[16,4]{1,0} all-reduce(%i), channel_id=1, replica_groups={{0,1,2,3}}, to_apply=%add
  ROOT %part = f32[4,4]{1,0} dynamic-slice(%all, %k)
}

%below.12 (t: (s32[], f32[8])) -> pred[] {
  %n = s32[]{:T(128)} constant(12)
  %t = (s32[]{:T(128)}, f32[8]{0:T(256)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%t), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %n), direction=LT
}

%layer (t: (s32[], f32[8])) -> (s32[], f32[8]) {
  %t = (s32[]{:T(128)}, f32[8]{0:T(256)}) parameter(0)
  %a = (bf16[1,64,8], bf16[1,128,8]) fusion(%x), kind=kCustom, calls=%piece.1
  %b = bf16[1,128,8] fusion(%a), kind=kCustom, calls=%piece.2
  ROOT %r = (s32[], f32[8]) tuple(%i, %v)
}

ENTRY %main (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  %w = (s32[]{:T(128)}, f32[8]{0:T(256)}) while(%t), condition=%below.12, body=%layer
  %s = f32[4,4] fusion(%g), kind=kCustom, calls=%all-reduce-scatter.1
  %both = (f32[8]{0}, f32[]{:T(128)}) all-reduce(%p, %q), channel_id=2, to_apply=%add
  %go = (f32[8]{0}, f32[32]{0}) all-gather-start(%p), channel_id=3
  %done = f32[32]{0} all-gather-done(%go)
}
"""


def test_what_the_compiler_of_tpus_writes() -> None:
    assert collectives.read(TPU) == {
        "all-gather": Traffic(12 + 1, 12 * 2 * 128 * 8 + 4 * 32),
        "all-reduce": Traffic(1, 4 * 8 + 4),
        "reduce-scatter": Traffic(1, 4 * 16 * 4),
    }


def test_a_program_of_fake_devices_with_a_loop() -> None:
    mesh = sharding.make_mesh(sections.Mesh())

    def summed_five_times(x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, 5, lambda _, x: jax.lax.psum(x, "data") / 8, x)

    split = jax.jit(
        jax.shard_map(
            summed_five_times,
            mesh=mesh,
            in_specs=PartitionSpec("data"),
            out_specs=PartitionSpec("data"),
            check_vma=False,
        )
    )
    text = split.lower(jax.ShapeDtypeStruct((8, 6), jnp.float32)).compile().as_text()
    assert collectives.read(text) == {"all-reduce": Traffic(5, 5 * 4 * 6)}


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (sections.Mesh(data=8), {"all-reduce": 2 * (800 + 10)}),
        (sections.Mesh(data=1, fsdp=8), {"all-gather": 2 * 2 * 800, "all-reduce": 2 * 10, "reduce-scatter": 2 * 800}),
        (
            sections.Mesh(data=2, fsdp=2, tensor=2),
            {"all-gather": 2 * 2 * 400, "all-reduce": 2 * (200 + 10), "reduce-scatter": 2 * 400},
        ),
    ],
)
def test_the_least_that_has_to_be_sent(section: sections.Mesh, expected: dict[str, int]) -> None:
    mesh = sharding.make_mesh(section)
    leaves = {
        "kernel": ((40, 20), PartitionSpec("fsdp" if section.fsdp > 1 else None, "tensor")),
        "scale": ((10,), PartitionSpec()),
    }
    params = {
        name: jax.ShapeDtypeStruct(shape, np.float32, sharding=NamedSharding(mesh, spec))
        for name, (shape, spec) in leaves.items()
    }
    assert collectives.least(params, mesh, 2) == expected


def test_an_all_reduce_is_a_reduce_scatter_and_an_all_gather() -> None:
    assert collectives.sent({"all-reduce": 5}) == collectives.sent({"reduce-scatter": 5, "all-gather": 5}) == 10
