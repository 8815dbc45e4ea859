"""Makes the small models of `golden/` with what other libraries compute of them: weights from seeds, every one random.

    PYTHON -m tests.exchange.make_golden --big_vision=DIR

PYTHON is one with requirements-exchange-test.txt, DIR a checkout of github.com/google-research/big_vision. The files
there were made with torch 2.13.0 (CPU), timm 1.0.31, transformers 5.24.0, flax 0.12.8 and commit 0127fb6 of big_vision.
Each model has `expected.npz`: `pixels_S` u8[2, S, S, 3] of a size S and `tokens_S` f32[2, N, D] of it.
"""

import importlib
import pathlib
import sys
import types

import numpy as np
from absl import app, flags

from tests.exchange import torchvision_names

GOLDEN = pathlib.Path(__file__).parent / "golden"
SIZES = (12, 20, 8)  # the model's own, one to enlarge its positions for, one to shrink them for
WIDTH, DEPTH, HEADS, HIDDEN, PATCH = 16, 2, 4, 40, 4
_BIG_VISION = flags.DEFINE_string("big_vision", None, "A checkout of big_vision; without it only the others.")


def pixels(size: int) -> np.ndarray:
    return np.random.default_rng(size).integers(0, 256, (2, size, size, 3)).astype(np.uint8)


def normal(shape: tuple[int, ...], name: str, rng: np.random.Generator) -> np.ndarray:
    """So large that every parameter shows in the result."""
    scales = "norm" in name.lower() and name.endswith(("weight", "scale"))
    return (scales + 0.3 * rng.standard_normal(shape)).astype(np.float32)


def randomise(model, seed: int):
    import torch

    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(normal(tuple(parameter.shape), name, rng)))
    return model.eval()


def expect(folder: pathlib.Path, mean: float, std: float, tokens_of) -> None:
    """`tokens_of`(size, f32[2, 3, S, S]) → tokens."""
    found = {}
    for size in SIZES:
        images = (pixels(size).astype(np.float32) - mean) / std
        found |= {f"pixels_{size}": pixels(size), f"tokens_{size}": tokens_of(size, images.transpose(0, 3, 1, 2))}
    np.savez(folder / "expected.npz", **found)


def make_timm(name: str, seed: int, **settings) -> None:
    import timm
    import torch

    sizes = {"embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS, "mlp_ratio": HIDDEN / WIDTH, "patch_size": PATCH}
    architecture = settings.pop("architecture")
    arguments = {"img_size": SIZES[0], **sizes, **settings}
    model = randomise(timm.create_model(architecture, **arguments), seed)
    shown = {"mean": (0.4,) * 3, "std": (0.3,) * 3, "input_size": (3, SIZES[0], SIZES[0])}
    timm.models.save_for_hf(model, GOLDEN / name, safe_serialization=True, model_args=arguments, data_config=shown)

    def tokens_of(size: int, images: np.ndarray) -> np.ndarray:
        resized = timm.create_model(f"local-dir:{GOLDEN / name}", pretrained=True, img_size=size).eval()
        with torch.no_grad():
            return resized.forward_features(torch.from_numpy(images)).numpy()

    expect(GOLDEN / name, 0.4 * 255, 0.3 * 255, tokens_of)


def make_transformers(name: str, seed: int, config, model_class, **arguments) -> None:
    import torch
    import transformers

    model = randomise(model_class(config, **arguments), seed)
    model.save_pretrained(GOLDEN / name)
    size = {"height": SIZES[0], "width": SIZES[0]}
    processor = transformers.ViTImageProcessor(size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    processor.save_pretrained(GOLDEN / name)

    def tokens_of(size: int, images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            found = model(torch.from_numpy(images), interpolate_pos_encoding=size != SIZES[0])
        return found.last_hidden_state.numpy()

    expect(GOLDEN / name, 127.5, 127.5, tokens_of)


def make_big_vision(name: str, seed: int, root: str, **settings) -> None:
    import jax

    vit = importlib.import_module("big_vision.models.vit")
    model = vit.Model(width=WIDTH, depth=DEPTH, mlp_dim=HIDDEN, num_heads=HEADS, patch_size=(PATCH, PATCH), **settings)
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, SIZES[0], SIZES[0], 3), np.float32))["params"]
    rng = np.random.default_rng(seed)
    params = jax.tree_util.tree_map_with_path(
        lambda path, leaf: normal(leaf.shape, jax.tree_util.keystr(path, simple=True, separator="/"), rng), shapes
    )
    leaves = jax.tree_util.tree_leaves_with_path(params)
    (GOLDEN / name).mkdir(parents=True, exist_ok=True)
    arrays = {root + jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
    np.savez(GOLDEN / name / "weights.npz", **arrays)

    def tokens_of(size: int, images: np.ndarray) -> np.ndarray:
        here = dict(params)
        if "pos_embedding" in here:
            new = np.zeros((1, (size // PATCH) ** 2, WIDTH))
            here["pos_embedding"] = vit.resample_posemb(here["pos_embedding"], new)
        _, found = model.apply({"params": here}, images.transpose(0, 2, 3, 1))
        return np.asarray(found["encoded"])

    expect(GOLDEN / name, 127.5, 127.5, tokens_of)


def main(_) -> None:
    torchvision_names.define()
    import transformers

    make_timm("timm_siglip_gap", 1, architecture="vit_base_patch16_siglip_gap_224", act_layer="gelu_tanh")
    make_timm("timm_vit", 2, architecture="vit_base_patch16_224", num_classes=0)
    sizes = {
        "hidden_size": WIDTH,
        "intermediate_size": HIDDEN,
        "num_hidden_layers": DEPTH,
        "num_attention_heads": HEADS,
    }
    image = {"image_size": SIZES[0], "patch_size": PATCH}
    siglip = transformers.SiglipVisionConfig(**sizes, **image)
    make_transformers("transformers_siglip", 3, siglip, transformers.SiglipVisionModel)
    vit = transformers.ViTConfig(**sizes, **image)
    make_transformers("transformers_vit", 4, vit, transformers.ViTModel, add_pooling_layer=False)
    if _BIG_VISION.value:
        sys.path.insert(0, _BIG_VISION.value)
        # Of its utilities, which need TensorFlow, a ViT uses none.
        sys.modules["big_vision.utils"] = types.ModuleType("big_vision.utils")
        make_big_vision("big_vision_siglip", 5, "params/img/", pool_type="map")
        make_big_vision("big_vision_sincos_scan", 6, "", posemb="sincos2d", scan=True)


if __name__ == "__main__":
    app.run(main)
