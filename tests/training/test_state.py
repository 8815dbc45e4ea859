"""One step is the same step however it is cut up: over micro-batches, devices, and mesh axes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mdc_jax import objectives
from mdc_jax.config import sections
from mdc_jax.ops.cross_entropy import Split
from mdc_jax.training import sharding, state
from mdc_jax.training.optimizer import decayed, learning_rate, make_optimizer

SETTINGS = sections.Optimizer(lr=1e-2, weight_decay=0.1)
BATCH = 16
OBJECTIVES = {
    "masked_diffusion": sections.MaskedDiffusion(null_image_rate=0.2),
    "autoregressive": sections.Autoregressive(null_image_rate=0.2),
    "siglip": sections.SigLip(duplicates="masked"),
}


@functools.cache
def objective(name: str, split: Split | None = None) -> objectives.base.Objective:
    encoder = sections.Encoder(patch=4, width=8, depth=1, heads=2, mlp_dim=16)
    return objectives.build(
        OBJECTIVES[name],
        model=sections.Model(encoder=encoder, decoder=sections.Decoder(depth=1)),
        image=sections.Image(size=8),
        vocab_size=12,
        max_tokens=6,
        split=split,
    )


def batch(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    length = rng.integers(1, 7, (BATCH, 1)).astype(np.int32)
    text = rng.integers(3, 12, (BATCH, 1, 6)).astype(np.int32)
    text = np.where(np.arange(6) < length[..., None], text, 0)
    np.put_along_axis(text, length[..., None] - 1, 1, axis=2)
    return {
        "image": rng.integers(0, 256, (BATCH, 8, 8, 3), np.uint8),
        "text": text,
        "length": length,
        "_mask": np.arange(BATCH) != 3,
    }


@functools.cache
def run(
    name: str, mesh_section: sections.Mesh, devices: int, *, accumulation: int = 1, ema: float = 0.0, steps: int = 3
) -> tuple:
    mesh = sharding.make_mesh(mesh_section, jax.devices()[:devices])
    schedule = learning_rate(SETTINGS, 1, 10)
    optimizer = make_optimizer(SETTINGS, schedule)
    built = objective(name, sharding.split(mesh))
    init = state.make_init(built, optimizer, seed=0, ema=ema > 0)
    places = jax.tree.map(lambda leaf: leaf.sharding, state.sharded(init, mesh))
    current = jax.jit(init, out_shardings=places)()
    step = state.make_step(built, optimizer, schedule, seed=0, accumulation=accumulation, ema=ema)
    step = jax.jit(step, in_shardings=(places, sharding.batch_sharding(mesh)), out_shardings=(places, None))
    history = []
    for i in range(steps):
        current, metrics = step(current, sharding.to_global(batch(i), mesh, len(batch(i)["_mask"])))
        history.append(jax.device_get(metrics))
    return jax.device_get(current), history


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "mesh", "devices", "accumulation"),
    [
        ("masked_diffusion", sections.Mesh(), 1, 4),
        ("masked_diffusion", sections.Mesh(data=2, fsdp=2, tensor=2), 8, 1),
        ("masked_diffusion", sections.Mesh(data=2, fsdp=2), 4, 2),
        ("masked_diffusion", sections.Mesh(data=1, fsdp=4, tensor=2), 8, 2),
        ("autoregressive", sections.Mesh(data=2), 2, 2),
        ("siglip", sections.Mesh(data=2), 2, 2),
    ],
)
def test_the_same_step_however_it_is_cut_up(name: str, mesh: sections.Mesh, devices: int, accumulation: int) -> None:
    expected, expected_history = run(name, sections.Mesh(), 1)
    actual, history = run(name, mesh, devices, accumulation=accumulation)
    for a, b in zip(history, expected_history, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_allclose(a[key], b[key], rtol=2e-4, atol=1e-5, err_msg=key)
    for a, b in zip(jax.tree.leaves(actual.params), jax.tree.leaves(expected.params), strict=True):
        # Adam divides by the root of tiny second moments, which enlarges rounding.
        np.testing.assert_allclose(a, b, atol=2e-3)


@pytest.mark.slow
def test_averaged_parameters_follow_the_parameters() -> None:
    final, _ = run("masked_diffusion", sections.Mesh(), 1, ema=0.9)
    expected = objective("masked_diffusion").init(state.key_for(0, 0, state.INIT))
    for steps in (1, 2, 3):
        then = run("masked_diffusion", sections.Mesh(), 1, steps=steps)[0].params
        expected = jax.tree.map(lambda mean, new: 0.9 * mean + 0.1 * new, expected, then)
    for mean, now, own in zip(*map(jax.tree.leaves, (final.ema, final.params, expected)), strict=True):
        np.testing.assert_allclose(mean, own, atol=1e-6)
        assert (mean != now).any() or not now.any()
    assert final.evaluated is final.ema


def test_decay_touches_kernels_only() -> None:
    params = objective("masked_diffusion").init(jax.random.key(0))
    mask = jax.tree_util.tree_leaves_with_path(decayed(params))
    assert {path[-1].key for path, on in mask if on} == {"kernel"}
    assert {path[-1].key for path, on in mask if not on} >= {"bias", "scale", "positions", "embedding", "null_memory"}


def test_schedule_warms_up_and_ends_at_zero() -> None:
    schedule = learning_rate(sections.Optimizer(lr=1.0), 10, 100)
    assert schedule(0) == 0 and schedule(10) == 1 and float(schedule(100)) == pytest.approx(0, abs=1e-6)
    assert float(schedule(55)) == pytest.approx(0.5)


def test_weight_decay_is_multiplied_by_the_learning_rate() -> None:
    optimizer = make_optimizer(sections.Optimizer(weight_decay=0.1), optax.constant_schedule(1e-3))
    params = {"kernel": jnp.full((2,), 5.0)}
    updates, _ = optimizer.update({"kernel": jnp.zeros(2)}, optimizer.init(params), params)
    np.testing.assert_allclose(updates["kernel"], -1e-3 * 0.1 * 5.0, rtol=1e-6)
