import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdc_jax.models import layers
from mdc_jax.objectives import sizes

CUDA = "PJRT C API\ncuda 12090"


def device(platform: str, version: str, capability: str | None = None) -> types.SimpleNamespace:
    client = types.SimpleNamespace(platform_version=version)
    return types.SimpleNamespace(platform=platform, client=client, compute_capability=capability)


@pytest.mark.parametrize(
    ("dtype", "head_dim", "keys", "masked", "expected"),
    [
        (jnp.bfloat16, 64, 196, False, "cudnn"),
        (jnp.float16, 128, 64, False, "cudnn"),
        (jnp.float32, 64, 196, False, "xla"),
        (jnp.bfloat16, 136, 196, False, "xla"),
        (jnp.bfloat16, 36, 196, False, "xla"),
        (jnp.bfloat16, 64, 24, False, "xla"),
        (jnp.bfloat16, 64, 196, True, "xla"),
    ],
)
def test_attention_is_cudnn_s_where_that_pays(monkeypatch, dtype, head_dim, keys, masked, expected):
    monkeypatch.setattr(jax, "devices", lambda: [device("gpu", CUDA, "9.0")])
    assert layers.attention_implementation(jnp.dtype(dtype), head_dim, keys, masked=masked) == expected


@pytest.mark.parametrize(
    "other",
    [
        device("cpu", "cpu"),
        device("tpu", "TFRT TPU v4"),
        device("gpu", CUDA, "7.5"),
        device("gpu", "PJRT C API\nrocm 60300", "gfx90a"),
    ],
    ids=["cpu", "tpu", "turing", "rocm"],
)
def test_attention_is_xla_s_elsewhere(monkeypatch, other):
    monkeypatch.setattr(jax, "devices", lambda: [other])
    assert layers.attention_implementation(jnp.dtype(jnp.bfloat16), 64, 196, masked=False) == "xla"


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (device("cpu", "cpu"), "float32"),
        (device("tpu", "TFRT TPU v4"), "bfloat16"),
        (device("gpu", CUDA, "7.5"), "float32"),
        (device("gpu", CUDA, "8.0"), "bfloat16"),
        (device("gpu", "PJRT C API\nrocm 60300", "gfx90a"), "bfloat16"),
    ],
    ids=["cpu", "tpu", "turing", "ampere", "rocm"],
)
def test_what_is_computed_in_bfloat16(monkeypatch, one, expected):
    monkeypatch.setattr(jax, "devices", lambda: [one])
    assert sizes.compute_dtype("auto") == expected
    assert sizes.compute_dtype("bfloat16") == "bfloat16"


@pytest.mark.parametrize("shape", [None, (3, 1, 5, 7), (1, 1, 5, 7), (3, 1, 1, 7)])
def test_a_cpu_that_takes_one_image_after_another_gets_the_same(monkeypatch, shape):
    """Attention whose weights are large, and its gradients."""
    given = tuple(jax.random.normal(jax.random.key(n), (3, size, 2, 4)) for n, size in enumerate((5, 7, 7)))
    mask = None if shape is None else jax.random.bernoulli(jax.random.key(3), 0.6, shape).at[..., 0].set(True)

    def summed(inputs):
        query, *memory = inputs
        return (layers.attend(query, layers.KeysValues(*memory), mask, "xla") ** 2).sum()

    def loops():
        return "scan" in str(jax.make_jaxpr(lambda inputs: summed(inputs))(given))  # anew, it is not kept

    expected = jax.value_and_grad(summed)(given)
    monkeypatch.setattr(layers, "_WEIGHTS_AT_ONCE", 4 * 3 * 2 * 5 * 7 - 1)
    assert not loops()  # several devices share the images
    monkeypatch.setattr(jax, "devices", lambda: [types.SimpleNamespace(platform="cpu")])
    with layers.traced_for([types.SimpleNamespace(platform="tpu")]):
        assert not loops()
    assert loops()
    found = jax.value_and_grad(summed)(given)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, expected)


def test_weights_are_those_by_which_values_are_summed():
    attention = layers.Attention(width=8, heads=2)
    queries, memory = jax.random.normal(jax.random.key(0), (2, 3, 8)), jax.random.normal(jax.random.key(1), (2, 5, 6))
    params = attention.init(jax.random.key(2), queries, memory)
    image = attention.apply(params, memory, method="project")
    weights = attention.apply(params, queries, image, method="weights")
    summed = jnp.einsum("bhqs,bshd->bqhd", weights, image.values).reshape(queries.shape)
    expected = attention.apply(params, queries, memory)
    out = params["params"]["out"]
    np.testing.assert_allclose(summed @ out["kernel"] + out["bias"][None, None], expected, atol=1e-5)
