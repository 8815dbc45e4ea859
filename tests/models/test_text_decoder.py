import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdc_jax.models import text_decoder
from tests.models.random_params import random_params

V, L, D, N, E = 7, 5, 8, 3, 12
SIZES = {"vocab_size": V, "max_tokens": L, "memory_width": E, "width": D, "depth": 2, "heads": 2, "mlp_dim": 16}
TOKENS = jax.random.randint(jax.random.key(2), (2, 3, L), 0, V + 1)
MEMORY = jax.random.normal(jax.random.key(3), (2, N, E))
CAUSAL = jnp.tri(L, dtype=bool)[None, None]


@functools.cache
def setup(**settings):
    model = text_decoder.TextDecoder(**{**SIZES, **settings})
    return jax.jit(model.apply), random_params(model.init, TOKENS, MEMORY)["params"]


def in_numpy(params, tokens, memory, allowed):
    """The decoder for one text i[L] and one image [N, E], written out."""
    p = jax.tree.map(np.asarray, params)

    def norm(x, scale, bias=0.0):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * scale + bias

    def attend(w, x, y, allowed):
        query, key, value = x @ w["query"]["kernel"], y @ w["key"]["kernel"], y @ w["value"]["kernel"]
        heads = []
        for h in range(2):
            part = slice(h * D // 2, (h + 1) * D // 2)
            scores = query[:, part] @ key[:, part].T / np.sqrt(D // 2)
            scores = np.exp(np.where(allowed, scores, -np.inf))
            heads.append(scores / scores.sum(-1, keepdims=True) @ value[:, part])
        return np.concatenate(heads, axis=1) @ w["out"]["kernel"]

    def gelu(x):
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    x = p["embedding"][tokens] + p["positions"]
    for i in range(2):
        w = jax.tree.map(lambda leaf, i=i: leaf[i], p["blocks"])
        y = norm(x, w["self_norm"]["scale"])
        x = x + attend(w["self_attention"], y, y, allowed)
        x = x + attend(w["cross_attention"], norm(x, w["cross_norm"]["scale"]), memory, True)
        y = norm(x, w["mlp_norm"]["scale"])
        x = x + gelu(y @ w["mlp"]["up"]["kernel"]) @ w["mlp"]["down"]["kernel"]
    return norm(x, p["norm"]["scale"], p["norm"]["bias"])


@pytest.mark.parametrize("mask", [None, CAUSAL, jnp.array([[True, True, False, True, False]])[None, None]])
def test_equals_the_decoder_written_out_in_numpy(mask):
    apply, params = setup()
    hidden = apply({"params": params}, TOKENS, MEMORY, mask)
    allowed = np.ones((L, L), bool) if mask is None else np.broadcast_to(mask[0, 0], (L, L))
    for image in range(2):
        for text in range(3):
            expected = in_numpy(params, np.asarray(TOKENS[image, text]), np.asarray(MEMORY[image]), allowed)
            np.testing.assert_allclose(hidden[image, text], expected, atol=2e-5)


def test_a_mask_of_its_own_for_every_text():
    apply, params = setup()
    masks = jax.random.bernoulli(jax.random.key(5), 0.6, (2, 3, 1, L)).at[..., 0].set(True)
    hidden = apply({"params": params}, TOKENS, MEMORY, masks)
    alone = apply({"params": params}, TOKENS[1:, 2:], MEMORY[1:], masks[1:, 2:])
    np.testing.assert_allclose(hidden[1, 2], alone[0, 0], atol=1e-5)
    row = jnp.broadcast_to(masks, (2, 3, L, L))
    np.testing.assert_allclose(hidden, apply({"params": params}, TOKENS, MEMORY, row), atol=1e-5)


def test_null_memory_stands_for_the_image_where_asked():
    apply, params = setup()
    null = jnp.array([True, False])
    hidden = apply({"params": params}, TOKENS, MEMORY, None, null)
    other = apply({"params": params}, TOKENS, MEMORY + 1, None, null)
    plain = apply({"params": params}, TOKENS, MEMORY)
    np.testing.assert_array_equal(hidden[0], other[0])
    np.testing.assert_allclose(hidden[1], plain[1], atol=1e-5)
    written = jnp.broadcast_to(params["null_memory"][None, None], MEMORY.shape)
    np.testing.assert_allclose(hidden[0], apply({"params": params}, TOKENS, written)[0], atol=1e-5)


def test_layout_blocks_have_no_biases_and_the_embedding_one_row_more_than_the_head():
    _, params = setup()
    assert all(path[-1].key != "bias" for path, _ in jax.tree_util.tree_leaves_with_path(params["blocks"]))
    assert params["embedding"].shape == (V + 1, D)
    assert params["head"]["kernel"].shape == (D, V)


@pytest.mark.slow
def test_scanned_unrolled_and_rematerialised_layers_are_one_model():
    def grads(**settings):
        apply, params = setup(**settings)
        return jax.jit(jax.grad(lambda p: apply({"params": p}, TOKENS, MEMORY, CAUSAL)[..., 0].sum()))(params)

    for settings in ({"scan": False}, {"remat": True}):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4), grads(), grads(**settings))


def test_bfloat16():
    apply, params = setup(dtype=jnp.bfloat16)
    hidden = apply({"params": params}, TOKENS, MEMORY, CAUSAL)
    assert hidden.dtype == jnp.bfloat16
    reference = setup()[0]({"params": params}, TOKENS, MEMORY, CAUSAL)
    np.testing.assert_allclose(hidden.astype(jnp.float32), reference, atol=0.1)


def test_heads_that_do_not_divide_the_width():
    with pytest.raises(ValueError, match="3 heads do not divide the decoder's width 8"):
        setup(heads=3)


@pytest.mark.parametrize("scan", [True, False])
def test_keys_and_values_of_the_image_that_were_made_ready_change_nothing(scan):
    apply, params = setup(scan=scan)
    model = text_decoder.TextDecoder(**SIZES, scan=scan)
    image = model.apply({"params": params}, MEMORY, method="project")
    hidden = model.apply({"params": params}, TOKENS, image, CAUSAL, method="read")
    np.testing.assert_allclose(hidden, apply({"params": params}, TOKENS, MEMORY, CAUSAL), atol=1e-5)
    null = model.apply({"params": params}, 2, method="project_null")
    hidden = model.apply({"params": params}, TOKENS, null, method="read")
    unseen = apply({"params": params}, TOKENS, MEMORY, None, jnp.ones(2, bool))
    np.testing.assert_allclose(hidden, unseen, atol=1e-5)


def test_token_after_token_equals_the_whole_text():
    apply, params = setup()
    model = text_decoder.TextDecoder(**SIZES)
    image = model.apply({"params": params}, MEMORY, method="project")
    before = model.apply({"params": params}, 2, 3, method="nothing_before")
    extend = jax.jit(lambda *args: model.apply({"params": params}, *args, method="extend"))
    whole = apply({"params": params}, TOKENS, MEMORY, CAUSAL)
    for position in range(L):
        hidden, before = extend(TOKENS[..., position], image, before, position)
        np.testing.assert_allclose(hidden, whole[:, :, position], atol=1e-5)
