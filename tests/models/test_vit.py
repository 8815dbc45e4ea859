import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdc_jax.models import vit
from tests.models.random_params import random_params

SIZES = {"patch": 4, "width": 16, "depth": 3, "heads": 2, "mlp_dim": 32}
IMAGES = jax.random.normal(jax.random.key(0), (2, 8, 12, 3))


@functools.cache
def run(**settings):
    model = vit.ViT(**{**SIZES, **settings})
    params = random_params(model.init, IMAGES)["params"]
    tokens, intermediates = jax.jit(model.apply)({"params": params}, IMAGES)
    return params, tokens, intermediates


def normalised(x):
    return (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)


def test_scanned_unrolled_and_rematerialised_layers_are_one_model():
    def grads(**settings):
        model = vit.ViT(**SIZES, **settings)

        params = random_params(model.init, IMAGES)["params"]
        loss = jax.jit(jax.grad(lambda p: jnp.square(model.apply({"params": p}, IMAGES)[0]).mean()))
        return params, loss(params)

    reference = grads()
    assert reference[0]["blocks"]["attention"]["query"]["kernel"].shape == (3, 16, 16)
    for settings in ({"scan": False}, {"remat": True}, {"scan": False, "remat": True}):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5), reference, grads(**settings))


def test_intermediates_are_the_layers_and_tokens_the_normalised_last_one():
    params, tokens, intermediates = run()
    assert tokens.shape == (2, 6, 16)
    assert intermediates["blocks"].shape == (3, 2, 6, 16)
    scale, bias = (np.asarray(params["norm"][name]) for name in ("scale", "bias"))
    last = np.asarray(intermediates["blocks"][-1])
    np.testing.assert_allclose(normalised(last) * scale + bias, tokens, atol=1e-4)
    first = jax.tree.map(lambda x: x[0], params["blocks"])
    block = vit.Block(2, 32, False, 1e-6, jnp.float32, None)
    np.testing.assert_allclose(
        block.apply({"params": first}, intermediates["stem"])[0], intermediates["blocks"][0], atol=1e-5
    )


def test_patches_are_embedded_row_by_row():
    params, _, intermediates = run(position="sincos2d", position_std=0.0)
    pixels = IMAGES[0, 4:8, 8:12].reshape(-1)  # row 1, column 2 of 2 x 3 patches
    expected = pixels @ params["patch"]["kernel"] + params["patch"]["bias"]
    np.testing.assert_allclose(intermediates["stem"][0, 5], expected, atol=1e-5)


def test_positions_have_the_scale_that_was_asked_for():
    def added(**settings):
        model = vit.ViT(**SIZES, patch_norm=True, **settings)
        params = random_params(model.init, IMAGES)["params"]
        if "positions" in params:
            positions = jax.jit(model.init)(jax.random.key(0), IMAGES)["params"]["positions"]
            params = {**params, "positions": positions}
        return model.apply({"params": params}, IMAGES)[1]["stem"]

    for position, rms in (("learned", 2.0), ("sincos2d", 2.0 / np.sqrt(2))):
        difference = added(position=position, position_std=2.0) - added(position=position, position_std=0.0)
        np.testing.assert_allclose(difference[0], difference[1], atol=1e-5)  # the same for every image
        assert np.sqrt(np.mean(difference**2)) == pytest.approx(rms, rel=0.25)
        distances = np.linalg.norm(difference[0][:, None] - difference[0][None], axis=-1)
        assert (distances[~np.eye(6, dtype=bool)] > 1).all()  # and different for every token


def test_patch_norm_makes_the_patch_embedding_unit_scale():
    params, _, intermediates = run(patch_norm=True, position="sincos2d", position_std=0.0)
    scale, bias = (np.asarray(params["patch_norm"][name]) for name in ("scale", "bias"))
    unit = (np.asarray(intermediates["stem"]) - bias) / scale
    np.testing.assert_allclose(np.square(unit).mean(-1), 1, atol=1e-3)


def test_class_token_comes_first_and_has_no_pixels():
    params, tokens, intermediates = run(class_token=True)
    assert tokens.shape == (2, 7, 16)
    np.testing.assert_array_equal(intermediates["stem"][:, 0], np.tile(params["class_token"], (2, 1)))


def test_exact_gelu_differs_from_tanh_a_little():
    difference = np.abs(run(exact_gelu=True)[1] - run()[1]).max()
    assert 1e-6 < difference < 1e-2


def test_bfloat16_computes_in_bfloat16_from_float32_parameters():
    params, tokens, _ = run(dtype=jnp.bfloat16)
    assert tokens.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    np.testing.assert_allclose(tokens.astype(jnp.float32), run()[1], atol=0.1)


def test_variants():
    assert vit.sizes("B/16") == vit.Sizes(patch=16, width=768, depth=12, heads=12, mlp_dim=3072)
    assert vit.sizes("L/14") == vit.Sizes(patch=14, width=1024, depth=24, heads=16, mlp_dim=4096)
    for wrong in ("B", "B/0", "X/16", "b/16"):
        with pytest.raises(ValueError, match="as in"):
            vit.sizes(wrong)


def test_sizes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="5 pixels do not divide images of 8 x 12"):
        run(patch=5)
    with pytest.raises(ValueError, match="3 heads do not divide the encoder's width 16"):
        run(heads=3)
    with pytest.raises(ValueError, match="a width that 4 divides, got 18"):
        run(position="sincos2d", width=18)


def test_flops_are_those_of_the_matrix_products():
    model = vit.ViT(**SIZES, scan=False)
    images = jnp.zeros((1, 32, 32, 3))
    params = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    compiled = jax.jit(lambda p, x: model.apply({"params": p}, x)[0]).lower(params, images).compile()
    counted = compiled.cost_analysis()["flops"]
    assert sum(vit.flops(vit.Sizes(**SIZES), 32)) == pytest.approx(counted, rel=0.15)  # the rest is elementwise
