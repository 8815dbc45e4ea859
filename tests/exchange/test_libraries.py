"""The libraries load what is exported for them and compute the same; this needs requirements-exchange-test.txt."""

import dataclasses
import pathlib

import jax
import numpy as np
import pytest
from etils import epath

from mdc_jax.exchange import timm, transformers
from mdc_jax.training import checkpoint
from tests.exchange import torchvision_names
from tests.exchange.random_model import IMAGE, model

torch = pytest.importorskip("torch", reason="bash launch/test.sh --torch installs PyTorch, timm and transformers")

torchvision_names.define()


def pixels() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (2, 12, 12, 3)).astype(np.uint8)


def normalised() -> object:
    images = (pixels().astype(np.float32) - np.float32(IMAGE.mean)) / np.float32(IMAGE.std)
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def ours(loaded: checkpoint.Loaded) -> dict[str, np.ndarray]:
    return jax.device_get(loaded.objective.encode(loaded.params, pixels()))


@pytest.mark.parametrize(
    "changes",
    [{}, {"class_token": True, "gelu": "exact"}, {"patch_norm": True}, {"position": "sincos2d", "position_std": 0.7}],
    ids=str,
)
def test_timm_computes_the_same(tmp_path: pathlib.Path, changes: dict) -> None:
    library = pytest.importorskip("timm")
    loaded = model(**changes)
    timm.write(loaded, epath.Path(tmp_path))
    theirs = library.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    with torch.no_grad():
        tokens, pooled = theirs.forward_features(normalised()).numpy(), theirs(normalised()).numpy()
    features = ours(loaded)
    np.testing.assert_allclose(tokens, features["tokens"], atol=1e-4)
    np.testing.assert_allclose(pooled, features["pooled"], atol=1e-4)
    shown = library.data.resolve_model_data_config(theirs)
    np.testing.assert_allclose(shown["mean"], np.divide(IMAGE.mean, 255))
    assert (shown["input_size"], shown["crop_mode"], shown["crop_pct"]) == ((3, 12, 12), "squash", 1.0)


@pytest.mark.parametrize("changes", [{}, {"gelu": "exact", "layer_norm_epsilon": 1e-5}], ids=str)
def test_transformers_computes_the_same(tmp_path: pathlib.Path, changes: dict) -> None:
    library = pytest.importorskip("transformers")
    loaded = model(**changes)
    transformers.write(loaded, epath.Path(tmp_path))
    theirs, info = library.SiglipVisionModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    with torch.no_grad():
        tokens = theirs.eval()(normalised()).last_hidden_state.numpy()
    np.testing.assert_allclose(tokens, ours(loaded)["tokens"], atol=1e-4)


@pytest.mark.parametrize("resize", ["resize", "crop"])
def test_the_image_processor_prepares_as_we_do(tmp_path: pathlib.Path, resize: str) -> None:
    library = pytest.importorskip("transformers")
    loaded = model()
    config = dataclasses.replace(loaded.config, image=dataclasses.replace(IMAGE, resize=resize))
    transformers.write(dataclasses.replace(loaded, config=config), epath.Path(tmp_path))
    processor = library.AutoImageProcessor.from_pretrained(tmp_path)
    found = processor(list(pixels()), return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(found, normalised().numpy(), atol=1e-5)
    # A wide picture is squashed, or cut.
    wide = np.random.default_rng(2).integers(0, 256, (24, 48, 3)).astype(np.uint8)
    assert processor(wide, return_tensors="np")["pixel_values"].shape == (1, 3, 12, 12)
