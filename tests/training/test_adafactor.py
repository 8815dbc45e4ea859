"""Adafactor is CapPa's, against a version in NumPy; its state is sharded, saved and restored."""

import pathlib

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
from etils import epath

from mdc_jax.config import sections
from mdc_jax.training import checkpoint, sharding
from mdc_jax.training.optimizer import make_optimizer, scale_by_factored_rms
from mdc_jax.training.state import State

SETTINGS = sections.Optimizer(name="adafactor", lr=0.01, weight_decay=1e-4, clip_norm=1.0)
LAYERS = {"decoder": {"blocks": {"mlp": {"up": {"kernel": (2, 32, 64)}}}, "head": {"kernel": (16, 48), "bias": (48,)}}}


def draw(seed: int) -> dict:
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda shape: rng.normal(size=shape).astype(np.float32), LAYERS, is_leaf=lambda x: isinstance(x, tuple)
    )


def by_hand(param: np.ndarray, grads: list[np.ndarray], rates: list[float], *, decays: bool) -> np.ndarray:
    """One parameter after some steps. A kernel of several layers is factored layer by layer."""
    factored = param.ndim >= 2 and min(param.shape[-2:]) >= 32
    row, column, full, momentum = 0.0, 0.0, 0.0, np.zeros_like(param)
    for step, (grad, rate) in enumerate(zip(grads, rates, strict=True), start=1):
        beta = min(SETTINGS.b2, 1 - step**-0.8)
        square = grad.astype(np.float64) ** 2 + 1e-30
        row = beta * row + (1 - beta) * square.mean(-1, keepdims=True)
        column = beta * column + (1 - beta) * square.mean(-2, keepdims=True) if factored else 0.0
        full = beta * full + (1 - beta) * square
        second = row * column / row.mean(-2, keepdims=True) if factored else full
        momentum = SETTINGS.b1 * momentum + (1 - SETTINGS.b1) * grad / np.sqrt(second)
        param = param - rate * (momentum + (SETTINGS.weight_decay / SETTINGS.lr * param if decays else 0))
        momentum = momentum.astype(ml_dtypes.bfloat16).astype(np.float64)
    return param


def clipped(grads: dict) -> dict:
    norm = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(grads)))
    return jax.tree.map(lambda leaf: leaf / max(norm, 1), grads)


def test_steps_are_those_of_a_version_in_numpy() -> None:
    rates = [0.002, 0.01, 0.007, 0.001]
    optimizer = make_optimizer(SETTINGS, lambda step: jnp.asarray(rates)[step])
    params = draw(0)
    grads = [draw(1), draw(2), draw(3), jax.tree.map(lambda leaf: leaf * 1e-4, draw(4))]
    current, state = params, optimizer.init(params)
    update = jax.jit(optimizer.update)
    for grad in grads:
        updates, state = update(grad, state, current)
        current = optax.apply_updates(current, updates)
    expected = jax.tree_util.tree_map_with_path(
        lambda path, param, *grads: by_hand(param, list(grads), rates, decays=path[-1].key == "kernel"),
        params,
        *map(clipped, grads),
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5), current, expected)


def decay(step: jax.Array) -> jax.Array:
    return jnp.minimum(0.9, 1.0 - (step + 1.0) ** -0.8)


def test_steps_and_state_of_few_layers_are_optaxs() -> None:
    """What older runs saved is what is restored."""
    ours = scale_by_factored_rms(decay)
    optaxs = optax.scale_by_factored_rms(decay_rate_fn=lambda step, _: decay(step), min_dim_size_to_factor=32)
    params = draw(0)
    state, expected_state = ours.init(params), optaxs.init(params)
    for grad in (draw(1), draw(2)):
        updates, state = ours.update(grad, state, params)
        expected, expected_state = optaxs.update(grad, expected_state, params)
        assert jax.tree.structure(state) == jax.tree.structure(expected_state)
        for a, b in zip(jax.tree.leaves((updates, state)), jax.tree.leaves((expected, expected_state)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, strict=True)


def test_a_layer_is_scaled_as_if_there_were_no_others_however_many_there_are() -> None:
    shapes = {"up": {"kernel": (96, 32, 64), "bias": (96, 64)}, "down": {"kernel": (96, 40, 16)}}
    rng = np.random.default_rng(0)
    first, second = (
        jax.tree.map(
            lambda shape: rng.normal(size=shape).astype(np.float32), shapes, is_leaf=lambda x: type(x) is tuple
        )
        for _ in range(2)
    )
    scale = scale_by_factored_rms(decay)

    def scaled(layers: slice, name: str) -> dict:
        state = scale.init({name: jax.tree.map(lambda leaf: leaf[layers], first)})
        for gradient in (first, second):
            updates, state = scale.update({name: jax.tree.map(lambda leaf: leaf[layers], gradient)}, state)
        return updates[name]

    all_ = scaled(slice(None), "blocks")
    for layer in (0, 50):
        alone = scaled(layer, "layer")
        for a, b in zip(jax.tree.leaves(all_), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a[layer], b, rtol=1e-4)


def test_weight_decay_is_multiplied_by_the_schedule_alone() -> None:
    optimizer = make_optimizer(SETTINGS, optax.constant_schedule(SETTINGS.lr / 2))
    params = {"kernel": jnp.full((2,), 5.0)}
    updates, _ = optimizer.update({"kernel": jnp.zeros(2)}, optimizer.init(params), params)
    np.testing.assert_allclose(updates["kernel"], -0.5 * 1e-4 * 5.0, rtol=1e-6)


def state_of(params: dict) -> State:
    return State(jnp.asarray(3), params, make_optimizer(SETTINGS, optax.constant_schedule(0.1)).init(params), None)


def test_momentum_is_split_like_its_parameter_and_rows_and_columns_are_whole() -> None:
    mesh = sharding.make_mesh(sections.Mesh(data=2, fsdp=2, tensor=2))
    state = state_of(draw(0))
    places = {
        jax.tree_util.keystr(path, simple=True, separator="/"): place.spec
        for path, place in jax.tree_util.tree_leaves_with_path(sharding.shardings(state, mesh))
    }
    shapes = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }
    (up,) = (name for name in places if name.endswith("ema/decoder/blocks/mlp/up/kernel"))
    assert places[up] == places["params/decoder/blocks/mlp/up/kernel"] != jax.P()
    (row,) = (name for name in places if name.endswith("v_row/decoder/blocks/mlp/up/kernel"))
    assert places[row] == jax.P() and shapes[row] == (2, 32)
    (small,) = (name for name in places if name.endswith("v/decoder/head/kernel"))
    assert places[small] == places["params/decoder/head/kernel"] and shapes[small] == (16, 48)


@pytest.mark.parametrize("mesh", [sections.Mesh(data=2, fsdp=2, tensor=2), sections.Mesh(data=1)])
def test_a_checkpoint_restores_on_any_mesh(tmp_path: pathlib.Path, mesh: sections.Mesh) -> None:
    state = state_of(draw(0))
    noise = iter(np.random.default_rng(1).normal(size=100))
    filled = jax.tree.map(lambda leaf: jnp.full_like(leaf, next(noise) * 100), state)
    devices = jax.devices()[: max(mesh.data * mesh.fsdp * mesh.tensor, 1)]
    checkpointer = checkpoint.Checkpointer(epath.Path(tmp_path))
    written_on = sharding.make_mesh(sections.Mesh(data=2, fsdp=4))
    checkpointer.save(3, jax.device_put(filled, sharding.shardings(filled, written_on)), {"position": 12})
    checkpointer.wait()
    places = sharding.shardings(filled, sharding.make_mesh(mesh, devices))
    abstract = jax.tree.map(lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), filled, places)
    restored = checkpointer.restore(3, abstract)
    checkpointer.close()
    for path, leaf in jax.tree_util.tree_leaves_with_path(restored.opt_state):
        expected = dict(jax.tree_util.tree_leaves_with_path(filled.opt_state))[path]
        assert leaf.dtype == expected.dtype
        np.testing.assert_array_equal(leaf, expected)
