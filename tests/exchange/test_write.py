"""What is written for other libraries is read back as it was, and what they cannot be is refused."""

import json
import pathlib

import numpy as np
import pytest
from etils import epath

from mdc_jax.config import ConfigError
from mdc_jax.exchange import loading, own, timm, transformers
from mdc_jax.objectives import sizes
from tests.exchange.random_model import IMAGE, model


@pytest.mark.parametrize(
    ("writer", "changes"),
    [
        (timm, {}),
        (timm, {"class_token": True, "patch_norm": True, "gelu": "exact"}),
        (transformers, {"layer_norm_epsilon": 1e-5}),
        (transformers, {"position": "sincos2d", "position_std": 0.5}),
    ],
)
def test_read_is_the_inverse_of_write(tmp_path: pathlib.Path, writer, changes: dict) -> None:
    loaded = model(**changes)
    writer.write(loaded, epath.Path(tmp_path))
    found, expected = loading.read_encoder(tmp_path), own.encoder_leaves(loaded)
    assert found.leaves.keys() == expected.keys()
    for name, leaf in expected.items():
        np.testing.assert_array_equal(found.leaves[name], leaf)
    encoder = loaded.config.model.encoder
    for name in ("class_token", "patch_norm", "gelu", "layer_norm_epsilon"):
        assert getattr(found.section, name) == getattr(encoder, name)
    assert sizes.encoder_sizes(found.section) == sizes.encoder_sizes(encoder)
    np.testing.assert_allclose([found.image.mean, found.image.std], [IMAGE.mean, IMAGE.std])


@pytest.mark.parametrize(
    ("writer", "changes", "message"),
    [
        (timm, {"layer_norm_epsilon": 1e-5}, "epsilon"),
        (transformers, {"class_token": True}, "--format=timm"),
        (transformers, {"patch_norm": True}, "--format=timm"),
    ],
)
def test_what_the_library_cannot_be(tmp_path: pathlib.Path, writer, changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        writer.write(model(**changes), epath.Path(tmp_path))


@pytest.mark.parametrize(("mlp_dim", "width"), [(3072, 768), (4304, 1152), (50, 24), (1, 3)])
def test_the_ratio_gives_the_width_that_it_came_from(mlp_dim: int, width: int) -> None:
    assert int(width * json.loads(json.dumps(timm._ratio(mlp_dim, width)))) == mlp_dim
