"""What holds for every objective, whatever it is."""

import functools

import jax
import numpy as np
import pytest

from mdc_jax.config import sections
from mdc_jax.objectives import OBJECTIVES
from mdc_jax.training import sharding
from tests.objectives import tiny

each = pytest.mark.parametrize("name", OBJECTIVES)
BATCH = 16


@functools.cache
def setup(name):
    """An objective, parameters, and what is drawn of a batch with an unreadable row and a missing caption."""
    objective = tiny.build(tiny.section(name))
    batch = tiny.batch(BATCH)
    batch["_mask"][3], batch["length"][6] = False, 0
    batch["text"][9], batch["length"][9] = batch["text"][8], batch["length"][8]
    return objective, tiny.trained(objective), jax.device_get(objective.corrupt(batch, jax.random.key(0)))


@functools.cache
def reference(name):
    objective, params, corrupted = setup(name)
    return jax.device_get(jax.jit(objective.gradient)(params, corrupted))


def assert_same(name, found):
    assert_close(found, reference(name))


def assert_close(found, reference):
    (grads, metrics), (expected, expected_metrics) = found, reference
    assert metrics.keys() == expected_metrics.keys()
    for key in metrics:
        np.testing.assert_allclose(metrics[key], expected_metrics[key], rtol=1e-4, err_msg=key)
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5 * largest), grads, expected)


@pytest.mark.slow
@each
def test_the_gradient_is_the_slope_of_the_loss(name):
    objective, params, corrupted = setup(name)
    grads, _ = reference(name)
    rng, step = np.random.default_rng(0), 5e-3
    for _ in range(3):
        # All move by a share of their size; along the gradient, those for which it is wrongly 0 would not.
        direction = jax.tree.map(lambda p: np.sqrt(np.mean(p**2)) * rng.normal(size=p.shape).astype(np.float32), params)
        parts = np.array(jax.tree.leaves(jax.tree.map(lambda g, d: np.sum(g * d), grads, direction)))
        up, down = (jax.tree.map(lambda p, d, s=s: p + s * step * d, params, direction) for s in (1, -1))
        slope = (float(objective.loss(up, corrupted)[0]) - float(objective.loss(down, corrupted)[0])) / (2 * step)
        np.testing.assert_allclose(slope, parts.sum(), rtol=0, atol=0.01 * np.linalg.norm(parts))


@pytest.mark.slow
@each
def test_micro_batches_change_neither_loss_nor_gradient(name):
    objective, params, corrupted = setup(name)
    gradient = jax.jit(objective.gradient, static_argnums=2)
    assert_same(name, jax.device_get(gradient(params, corrupted, 4)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mesh", "devices", "micro_batches"),
    [
        (sections.Mesh(data=2), 2, 1),
        (sections.Mesh(data=8), 8, 1),
        (sections.Mesh(data=2, fsdp=4), 8, 1),
        (sections.Mesh(data=2, fsdp=2, tensor=2), 8, 2),
    ],
)
@each
def test_any_number_of_devices_finds_the_same_loss_and_gradient(name, mesh, devices, micro_batches):
    objective, params, corrupted = setup(name)
    mesh = sharding.make_mesh(mesh, jax.devices()[:devices])
    places = sharding.shardings(params, mesh)
    step = jax.jit(
        lambda p, c: objective.gradient(p, c, micro_batches),
        in_shardings=(places, sharding.batch_sharding(mesh)),
        out_shardings=(places, sharding.replicated(mesh)),
    )
    assert_same(name, jax.device_get(step(params, corrupted)))


@pytest.mark.slow
@pytest.mark.parametrize("settings", [sections.MaskedDiffusion(masks_per_caption=2), sections.Autoregressive()])
def test_a_split_vocabulary_and_what_is_drawn_on_a_mesh_are_those_of_one_device(settings):
    """Of two captions, and half of the patches; the output layer is split over the last axis of the mesh."""
    batch = tiny.batch(BATCH, captions=2)
    batch["_mask"][3], batch["length"][6, 1] = False, 0
    mesh = sharding.make_mesh(sections.Mesh(data=2, fsdp=2, tensor=2))
    sizes = {"vocab_size": tiny.VOCAB + 1, "token_keep": 0.5}
    one, many = tiny.build(settings, **sizes), tiny.build(settings, **sizes, split=sharding.split(mesh))
    params, key = tiny.trained(one), jax.random.key(0)

    def step(objective, params, batch):
        corrupted = objective.thin(objective.corrupt(batch, key), key)
        return corrupted["patches"], objective.gradient(params, corrupted, 2)

    places, whole = sharding.shardings(params, mesh), sharding.replicated(mesh)
    assert places["decoder"]["head"]["kernel"].spec == jax.P("fsdp", "tensor")
    found = jax.jit(
        functools.partial(step, many),
        in_shardings=(places, sharding.batch_sharding(mesh)),
        out_shardings=(whole, (places, whole)),
    )(params, batch)
    (patches, found), (expected_patches, expected) = jax.device_get(
        (found, jax.jit(step, static_argnums=0)(one, params, batch))
    )
    np.testing.assert_array_equal(patches, expected_patches)
    assert_close(found, expected)


@each
def test_the_section_says_whether_captions_are_written(name):
    objective, params, _ = setup(name)
    features = jax.eval_shape(objective.encode, params, tiny.batch(2)["image"])
    written = jax.eval_shape(objective.generate, params, features, jax.random.key(0))
    assert (written is not None) == sections.OBJECTIVES[name].writes_captions


@each
def test_an_image_that_all_captions_share_is_as_good_as_copies_of_it(name):
    """With the same random numbers: those are of the row of captions, not of the image."""
    objective, params, _ = setup(name)
    batch = tiny.batch(2, captions=3)
    one = objective.encode(params, batch["image"][:1])
    one = {key: one[key] for key in ("tokens", "pooled")}
    copies = jax.tree.map(lambda x: np.repeat(x, 2, axis=0), one)
    for scorer in map(jax.jit, objective.scorers.values()):
        shared, apart = (
            scorer(params, features, {"text": batch["text"], "length": batch["length"]}, jax.random.key(1))
            for features in (one, copies)
        )
        np.testing.assert_allclose(shared.value, apart.value, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(shared.standard_error, apart.standard_error, rtol=1e-3, atol=1e-5)
