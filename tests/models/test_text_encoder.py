import jax
import numpy as np
import pytest

from mdc_jax.models import text_encoder
from tests.models.random_params import random_params

V, L, D = 7, 5, 8
SIZES = {"width": D, "depth": 2, "mlp_dim": 16}
MODEL = text_encoder.TextEncoder(V, L, heads=2, **SIZES)
LENGTH = np.array([3, 5, 1], np.int32)
TOKENS = np.random.default_rng(0).integers(0, V, (3, L)).astype(np.int32)
PARAMS = random_params(MODEL.init, TOKENS, LENGTH)
APPLY = jax.jit(MODEL.apply)


def in_numpy(params, tokens):
    """The encoder for one text without pads, written out."""
    p = jax.tree.map(np.asarray, params)

    def norm(x, scale, bias=0.0):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * scale + bias

    x = p["embedding"][tokens] + p["positions"][: len(tokens)]
    for i in range(2):
        w = jax.tree.map(lambda leaf, i=i: leaf[i], p["blocks"])
        y, attention = norm(x, w["self_norm"]["scale"]), w["self_attention"]
        query, key, value = (y @ attention[name]["kernel"] for name in ("query", "key", "value"))
        heads = []
        for part in (slice(0, D // 2), slice(D // 2, D)):
            scores = np.exp(query[:, part] @ key[:, part].T / np.sqrt(D // 2))
            heads.append(scores / scores.sum(-1, keepdims=True) @ value[:, part])
        x = x + np.concatenate(heads, axis=1) @ attention["out"]["kernel"]
        y = norm(x, w["mlp_norm"]["scale"]) @ w["mlp"]["up"]["kernel"]
        x = x + 0.5 * y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3))) @ w["mlp"]["down"]["kernel"]
    return norm(x, p["norm"]["scale"], p["norm"]["bias"])[-1]


def test_equals_the_encoder_written_out_in_numpy_and_never_sees_pads():
    encoded = APPLY(PARAMS, TOKENS, LENGTH)
    for row, length in enumerate(LENGTH):
        np.testing.assert_allclose(encoded[row], in_numpy(PARAMS["params"], TOKENS[row, :length]), atol=2e-5)


def test_an_empty_text_is_finite():
    assert np.isfinite(APPLY(PARAMS, TOKENS, np.zeros(3, np.int32))).all()


def test_heads_that_do_not_divide_the_width():
    with pytest.raises(ValueError, match="3 heads do not divide the text encoder's width 8"):
        jax.eval_shape(text_encoder.TextEncoder(V, L, heads=3, **SIZES).init, jax.random.key(0), TOKENS, LENGTH)
