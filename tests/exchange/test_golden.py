"""What other libraries compute of their small models, our encoder computes of the same files; see make_golden.py."""

import dataclasses
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
from etils import epath

import mdc_jax
from mdc_jax.config import ConfigError, sections
from mdc_jax.describe import describe
from mdc_jax.evaluators import build
from mdc_jax.evaluators.base import Subject
from mdc_jax.exchange import loading, positions, released, safetensors, timm, trees
from mdc_jax.models import vit
from mdc_jax.objectives import sizes
from tests.exchange.make_golden import GOLDEN

PATHS = {
    "timm_siglip_gap": "",
    "timm_vit": "",
    "transformers_siglip": "",
    "transformers_vit": "",
    "big_vision_siglip": "weights.npz",
    "big_vision_sincos_scan": "weights.npz",
}
RESAMPLED = ("timm_siglip_gap", "transformers_siglip", "big_vision_siglip", "big_vision_sincos_scan")


def read(name: str) -> released.Encoder:
    return loading.read_encoder(GOLDEN / name / PATHS[name])


def encode(encoder: released.Encoder, pixels: np.ndarray) -> np.ndarray:
    """The tokens of u8[B, S, S, 3], by our modules from the file's own description of itself."""
    section, side = encoder.section, pixels.shape[1] // encoder.section.patch
    module = vit.ViT(
        **dataclasses.asdict(sizes.encoder_sizes(section)),
        class_token=section.class_token,
        patch_norm=section.patch_norm,
        exact_gelu=section.gelu == "exact",
        epsilon=section.layer_norm_epsilon,
    )
    old = encoder.leaves["positions"]
    if len(old) != side * side:
        grid = old.reshape(encoder.image.size // section.patch, -1, section.width)
        old = encoder.resample(grid, side).reshape(side * side, -1)
    params = trees.nested({**encoder.leaves, "positions": old})
    mean, std = (np.asarray(value, np.float32)[None, None, None] for value in (encoder.image.mean, encoder.image.std))
    apply = jax.jit(module.apply, compiler_options={"xla_backend_optimization_level": 0})
    return np.asarray(apply({"params": params}, (pixels.astype(np.float32) - mean) / std)[0])


@pytest.mark.parametrize(
    ("name", "size"), [(name, 12) for name in PATHS] + [(name, size) for name in RESAMPLED for size in (20, 8)]
)
def test_tokens_are_those_of_the_library(name: str, size: int) -> None:
    expected = np.load(GOLDEN / name / "expected.npz", allow_pickle=False)
    found = encode(read(name), expected[f"pixels_{size}"])
    np.testing.assert_allclose(found, expected[f"tokens_{size}"], atol=1e-4)


def test_what_stands_around_an_encoder_is_named() -> None:
    assert all(name.startswith("params/img/MAPHead_0/") for name in read("big_vision_siglip").left_out)
    assert any(name.startswith("head.") for name in read("transformers_siglip").left_out)
    assert read("timm_vit").left_out == ()


def copy_of(name: str, tmp_path: pathlib.Path, **config: object) -> epath.Path:
    folder = epath.Path(shutil.copytree(GOLDEN / name, tmp_path / name))
    about = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**about, **config}))
    return folder


def with_tensors(folder: epath.Path, change) -> epath.Path:
    tensors = safetensors.read(folder / "model.safetensors")
    change(tensors)
    safetensors.write(folder / "model.safetensors", tensors, {})
    return folder


ONE = np.ones(16, np.float32)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda tensors: tensors.update({"blocks.0.ls1.gamma": ONE}), r"layer scale \(blocks\.0\.ls1\.gamma\)"),
        (lambda tensors: tensors.update({"reg_token": ONE}), "register tokens"),
        (lambda tensors: tensors.update({"norm_pre.weight": ONE}), "a LayerNorm before the blocks"),
        (lambda tensors: tensors.update({"blocks.1.attn.q_norm.weight": ONE}), "norms of queries and keys"),
        (lambda tensors: tensors.update({"dist_token": ONE}), "a distillation token"),
        (lambda tensors: tensors.update({"fc_norm.weight": tensors.pop("norm.weight")}), "after pooling"),
        (lambda tensors: tensors.pop("patch_embed.proj.bias"), r"patch embedding without bias .*is missing"),
        (lambda tensors: tensors.pop("pos_embed"), "another kind of positions"),
        (lambda tensors: tensors.update({"something.else": ONE}), r"another structure \(something\.else\)"),
        (lambda tensors: tensors.update({"pos_embed": np.ones((1, 8, 16), np.float32)}), "make no square"),
    ],
)
def test_what_our_encoder_cannot_be_is_refused_with_the_reason(tmp_path: pathlib.Path, change, reason: str) -> None:
    folder = with_tensors(copy_of("timm_vit", tmp_path), change)
    with pytest.raises(ConfigError, match=reason):
        loading.read_encoder(folder)


@pytest.mark.parametrize(
    ("name", "config", "reason"),
    [
        ("timm_vit", {"architecture": "vit_base_patch32_clip_quickgelu_224"}, "quick GELU"),
        ("timm_vit", {"model_args": {"num_heads": 4, "norm_layer": "rmsnorm"}}, "norm_layer=rmsnorm"),
        # vit_base_patch16_gap_224 has 16 heads, the others of its width 12.
        ("timm_vit", {"architecture": "vit_base_patch16_gap_224", "model_args": {}}, "how many heads"),
        ("transformers_siglip", {"hidden_act": "quick_gelu"}, "quick_gelu"),
        ("transformers_vit", {"model_type": "dinov2"}, "layer scale"),
        ("transformers_vit", {"model_type": "swin"}, 'model type "swin"'),
    ],
)
def test_configs_of_other_encoders(tmp_path: pathlib.Path, name: str, config: dict, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        loading.read_encoder(copy_of(name, tmp_path, **config))


def test_the_heads_of_a_known_size_and_its_activation(tmp_path: pathlib.Path) -> None:
    assert timm._heads("vit_base_patch16_siglip_gap_224", {}, 768) == 12
    assert timm._gelu("vit_so400m_patch16_siglip_gap_256", {}) == "tanh"
    assert timm._gelu("vit_base_patch16_siglip_gap_224", {}) == "exact"


def test_a_pickle_is_refused_with_the_fix(tmp_path: pathlib.Path) -> None:
    (tmp_path / "model.pth").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(ConfigError, match=r"pickled.*save it there as model\.safetensors"):
        loading.read_encoder(tmp_path / "model.pth")
    folder = copy_of("timm_vit", tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="pickled"):
        loading.read_encoder(folder)


def test_a_file_of_weights_without_its_config() -> None:
    with pytest.raises(ConfigError, match=r"give its folder"):
        loading.read_encoder(GOLDEN / "timm_vit" / "model.safetensors")


def test_names_that_flax_gave_before_linen(tmp_path: pathlib.Path) -> None:
    arrays = dict(np.load(GOLDEN / "big_vision_siglip" / "weights.npz", allow_pickle=False))
    renamed = {}
    for name, array in arrays.items():
        name = name.removeprefix("params/img/")
        if name.startswith("Transformer/encoderblock"):
            for old, new in (
                ("LayerNorm_1", "LayerNorm_2"),
                ("Attention_0", "Attention_1"),
                ("MlpBlock_0", "MlpBlock_3"),
            ):
                name = name.replace(old, new)
        renamed[name.replace("pos_embedding", "Transformer/posembed_input/pos_embedding")] = array
    # Those files gave the class token a position.
    table = renamed["Transformer/posembed_input/pos_embedding"]
    renamed["Transformer/posembed_input/pos_embedding"] = np.concatenate([2 + table[:, :1], table], axis=1)
    renamed["cls"] = np.full((1, 1, 16), 3, np.float32)
    np.savez(tmp_path / "old.npz", **renamed)
    old, new = loading.read_encoder(tmp_path / "old.npz"), read("big_vision_siglip")
    for name, leaf in new.leaves.items():
        np.testing.assert_array_equal(old.leaves[name], leaf)
    np.testing.assert_allclose(old.leaves["class_token"], 5 + table[0, 0], rtol=1e-6)


@pytest.mark.parametrize("old_new", [(14, 16), (16, 7), (3, 5)])
def test_resampling_keeps_a_constant_and_a_grid_of_the_same_size(old_new: tuple[int, int]) -> None:
    old, new = old_new
    grid = np.random.default_rng(0).standard_normal((old, old, 2)).astype(np.float32)
    for resample in (positions.antialiased_bicubic, positions.bicubic, positions.bilinear):
        np.testing.assert_allclose(resample(np.ones_like(grid), new), 1, atol=1e-5)
        np.testing.assert_allclose(resample(grid, old), grid, atol=1e-5)


def test_an_npz_with_objects_is_never_unpickled(tmp_path: pathlib.Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.asarray([{}], object))
    with pytest.raises(ConfigError, match="could run code"):
        loading.read_encoder(tmp_path / "x.npz")


def test_an_npz_that_would_fill_the_memory(tmp_path: pathlib.Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros(2**22, np.uint8))
    with pytest.raises(ConfigError, match=r"would unpack to 4,194"):
        loading.read_encoder(tmp_path / "x.npz")


def test_an_npz_whose_header_lies(tmp_path: pathlib.Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros(7, np.float32))
    data = (tmp_path / "x.npz").read_bytes()
    (tmp_path / "x.npz").write_bytes(data.replace(b"(7,), }", b"(9,), }"))
    with pytest.raises(ConfigError, match="no npz file"):
        loading.read_encoder(tmp_path / "x.npz")


def test_a_path_that_is_nothing_of_theirs(tmp_path: pathlib.Path) -> None:
    assert loading.read_encoder(tmp_path) is None
    with pytest.raises(ConfigError, match="holds no checkpoint"):
        loading.load(tmp_path)


def test_an_encoder_alone_is_loaded_and_encodes() -> None:
    model = mdc_jax.load(GOLDEN / "transformers_vit", batch_size=8)
    expected = np.load(GOLDEN / "transformers_vit" / "expected.npz", allow_pickle=False)
    found = model(list(expected["pixels_12"]), "tokens")
    np.testing.assert_allclose(found, expected["tokens_12"], atol=1e-4)
    with pytest.raises(ConfigError, match="no decoder: it is an image encoder alone and writes no captions"):
        model.caption([expected["pixels_12"][0]])
    with pytest.raises(ConfigError, match="knows no captions"):
        model.score([expected["pixels_12"][0]], [["a cat"]])
    with pytest.raises(ConfigError, match="leave out the step"):
        loading.load(GOLDEN / "timm_vit", step=1)
    assert "encoder/blocks/mlp/up/kernel" in describe(GOLDEN / "big_vision_siglip" / "weights.npz")


@pytest.mark.parametrize(
    ("file", "key", "value", "complaint"),
    [
        ("config.json", "num_attention_heads", 3, "3 heads at width"),
        ("config.json", "num_attention_heads", 0, "0 heads at width"),
        ("config.json", "layer_norm_eps", "small", "epsilon 'small'"),
        ("config.json", "layer_norm_eps", -1.0, "epsilon -1.0"),
        ("preprocessor_config.json", "image_std", [0, 0, 0], "pixels normalised by"),
        ("preprocessor_config.json", "image_mean", [0.5], "pixels normalised by"),
    ],
)
def test_settings_that_no_model_can_have(
    tmp_path: pathlib.Path, file: str, key: str, value: object, complaint: str
) -> None:
    folder = copy_of("transformers_vit", tmp_path)
    (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | {key: value}))
    with pytest.raises(ConfigError, match=complaint):
        loading.load(folder)


def test_a_name_makes_no_layers(tmp_path: pathlib.Path) -> None:
    extra = {"blocks.999999999.mlp.fc1.weight": np.ones((1, 1), np.float32)}
    folder = with_tensors(copy_of("timm_vit", tmp_path), lambda tensors: tensors.update(extra))
    with pytest.raises(ConfigError, match="cannot express"):
        loading.load(folder)


def test_images_are_cut_or_squashed_as_the_files_say(tmp_path: pathlib.Path) -> None:
    folder = copy_of("transformers_vit", tmp_path)
    assert loading.load(folder).config.image.resize == "resize"
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"do_center_crop": True}))
    assert loading.load(folder).config.image.resize == "crop"


def test_an_encoder_alone_is_probed(tmp_path: pathlib.Path) -> None:
    splits = {split: f"scenes:{split},size=48" for split in ("train", "validation", "test")}
    counts = {f"{split}_examples": 40 for split in splits}
    section = sections.LinearProbe(**splits, **counts, families=("background",), batch_size=8, baselines=False)
    subject = Subject.of(loading.load(GOLDEN / "timm_siglip_gap"), epath.Path(tmp_path))
    ((name, accuracy),) = build(section).run(subject)
    assert name == "background" and accuracy > 0.8  # chance is a third


@pytest.mark.parametrize("name", ["norm.bias", "blocks.1.mlp.fc1.weight", "pos_embed"])
def test_shapes_that_do_not_fit_each_other(tmp_path: pathlib.Path, name: str) -> None:
    folder = with_tensors(copy_of("timm_vit", tmp_path), lambda tensors: tensors.update({name: np.ones(3, np.float32)}))
    with pytest.raises(ConfigError, match=r"timm_vit"):
        loading.load(folder)


def test_an_encoder_whose_preprocessing_is_not_known(tmp_path: pathlib.Path) -> None:
    folder = copy_of("transformers_vit", tmp_path)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ConfigError, match=r"add the model's preprocessor_config\.json"):
        loading.load(folder)


def test_preprocessing_is_on_the_scale_of_pixels() -> None:
    assert read("transformers_vit").image == sections.Image(size=12, mean=(127.5,) * 3, std=(127.5,) * 3)
    np.testing.assert_allclose(read("timm_vit").image.mean, 102.0)
