"""A run starts from the weights of another or of a released encoder, and says what it took; what is frozen stays."""

import dataclasses
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from mdc_jax import command
from mdc_jax.config import ConfigError, parse, sections
from mdc_jax.data.tokenizer import Tokenizer
from mdc_jax.exchange import initial, loading, safetensors, trees
from mdc_jax.training import build, checkpoint, loop, sharding
from tests.exchange.make_golden import GOLDEN

ROOT = pathlib.Path(__file__).parents[2]
RUN = ROOT / "tests" / "testdata" / "checkpoint_format_1"
TOKENIZER = Tokenizer.load(RUN / "tokenizer.model")


@pytest.fixture(autouse=True)
def one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    make_mesh = sharding.make_mesh
    monkeypatch.setattr(sharding, "make_mesh", lambda section: make_mesh(sections.Mesh(), jax.devices()[:1]))


def config(path: object, encoder: sections.Encoder, **image: object) -> sections.Config:
    model = sections.Model(encoder, sections.Decoder(width=16, depth=1, heads=2, mlp_dim=16))
    data = sections.Data(train="scenes:train", max_tokens=6)
    return sections.Config(init_from=str(path), model=model, image=sections.Image(**image), data=data)


def fresh(settings: sections.Config) -> dict:
    """Parameters of zeros where they would be random, so that what was loaded shows."""
    objective = build.objective(settings, TOKENIZER.vocab_size, sharding.make_mesh(sections.Mesh()))
    return jax.tree.map(lambda x: jnp.zeros(x.shape), jax.eval_shape(objective.init, jax.random.key(0)))


TINY = sections.Encoder(patch=4, width=16, depth=2, heads=4, mlp_dim=40)
TIMM = dataclasses.replace(TINY, gelu="tanh")


def test_a_released_encoder_is_loaded_and_its_positions_are_resampled() -> None:
    path = GOLDEN / "timm_siglip_gap"
    settings = config(path, TIMM, size=20, mean=(102.0,) * 3, std=(76.5,) * 3)
    params, account = initial.start(settings, TOKENIZER, fresh(settings))
    expected = loading.read_encoder(path)
    for name, leaf in trees.on_host(params["encoder"]).items():
        if name != "positions":
            np.testing.assert_array_equal(leaf, expected.leaves[name])
    grid = expected.resample(expected.leaves["positions"].reshape(3, 3, -1), 5)
    np.testing.assert_array_equal(params["encoder"]["positions"], grid.reshape(25, -1))
    assert not any(leaf.any() for leaf in trees.on_host(params["decoder"]).values())
    assert "positions resampled from 3 x 3 to 5 x 5 (antialiased_bicubic)" in account
    assert "decoder: left fresh, there is none" in account


@pytest.mark.parametrize(
    ("name", "encoder", "image", "message"),
    [
        ("timm_vit", TINY, {}, r"class_token: True there, False here"),
        (
            "timm_siglip_gap",
            dataclasses.replace(TIMM, width=32),
            {},
            r"key/bias: \(2, 16\) there, \(2, 32\) here(.|\n)*=16",
        ),
        ("timm_siglip_gap", dataclasses.replace(TIMM, heads=2), {}, r"--config\.model\.encoder\.heads=4"),
        ("timm_siglip_gap", dataclasses.replace(TIMM, gelu="exact"), {}, r"set --config\.model\.encoder\.gelu=tanh"),
        ("timm_siglip_gap", dataclasses.replace(TIMM, position="sincos2d"), {}, r"position: 'learned' there"),
        ("timm_siglip_gap", TIMM, {}, r'image\.mean=.*set --config\.image\.mean="\(102,102,102\)"'),
        ("timm_siglip_gap", TIMM, {"mean": (102.0,) * 3}, r"image\.std"),
    ],
)
def test_what_does_not_fit_is_an_error_with_the_fix(name: str, encoder, image: dict, message: str) -> None:
    settings = config(GOLDEN / name, encoder, size=12, **image)
    with pytest.raises(ConfigError, match=message):
        initial.start(settings, TOKENIZER, fresh(settings))


def whole(**changes: object) -> sections.Config:
    return dataclasses.replace(loading.load(RUN).config, **{"init_from": str(RUN), **changes})


def test_a_whole_run_is_loaded() -> None:
    settings = whole()
    params, account = initial.start(settings, TOKENIZER, fresh(settings))
    jax.tree.map(np.testing.assert_array_equal, params, loading.load(RUN).params)
    assert "fresh" not in account.replace(str(RUN), "")  # the folder of the project may be called so


def test_the_encoder_alone_is_loaded_where_the_decoder_is_another() -> None:
    settings = whole()
    wider = dataclasses.replace(settings.model, decoder=dataclasses.replace(settings.model.decoder, mlp_dim=24))
    settings = dataclasses.replace(settings, model=wider)
    params, account = initial.start(settings, TOKENIZER, fresh(settings))
    jax.tree.map(np.testing.assert_array_equal, params["encoder"], loading.load(RUN).params["encoder"])
    assert not any(leaf.any() for leaf in trees.on_host(params["decoder"]).values())
    assert "decoder/blocks/mlp/down/kernel is (1, 32, 16) there and (1, 24, 16) here" in account


def test_heads_and_tokens_that_mean_something_else_leave_the_decoder_fresh(tmp_path: pathlib.Path) -> None:
    settings = whole()
    other = dataclasses.replace(settings.model, decoder=dataclasses.replace(settings.model.decoder, heads=1))
    _, account = initial.start(dataclasses.replace(settings, model=other), TOKENIZER, fresh(settings))
    assert "decoder: left fresh, it has" in account and "and 1 here" in account

    class Other:
        hash, vocab_size = "another", TOKENIZER.vocab_size

    _, account = initial.start(settings, Other(), fresh(settings))
    assert "another tokenizer" in account


@pytest.mark.parametrize(("name", "ours"), [("norm.bias", "norm/bias"), ("pos_embed", "positions")])
def test_weights_of_a_wrong_shape_are_named(tmp_path: pathlib.Path, name: str, ours: str) -> None:
    folder = epath.Path(shutil.copytree(GOLDEN / "timm_siglip_gap", tmp_path / "copy"))
    tensors = safetensors.read(folder / "model.safetensors")
    safetensors.write(folder / "model.safetensors", {**tensors, name: np.ones(3, np.float32)}, {})
    settings = config(folder, TIMM, size=12, mean=(102.0,) * 3, std=(76.5,) * 3)
    with pytest.raises(ConfigError, match=rf"encoder/{ours}: .*3,?\) there, .*16,?\) here"):
        initial.start(settings, TOKENIZER, fresh(settings))


def test_a_path_where_nothing_is() -> None:
    with pytest.raises(ConfigError, match="holds no checkpoint"):
        initial.start(whole(init_from="nowhere"), TOKENIZER, None)


@pytest.mark.slow
def test_a_run_from_another_has_its_loss_and_its_frozen_encoder_stays(tmp_path: pathlib.Path) -> None:
    tiny = parse(command.load(str(ROOT / "tests" / "end_to_end" / "tiny.py")))
    first = loop.train(dataclasses.replace(tiny, duration="2 steps"), tmp_path / "first")
    rules = (("^encoder/", 0.0), ("decoder/positions", 0.5))
    still = dataclasses.replace(tiny.optimizer, lr=1e-30, ema=0.9, lr_multipliers=rules)
    second = dataclasses.replace(
        tiny, duration="1 steps", optimizer=still, init_from=str(tmp_path / "first"), seed=1, tokenizer=tiny.tokenizer
    )
    second = dataclasses.replace(
        second, tokenizer=dataclasses.replace(tiny.tokenizer, model=str(tmp_path / "first" / checkpoint.TOKENIZER))
    )
    results = loop.train(second, tmp_path / "second")
    np.testing.assert_allclose(results["held_out/loss"], first["held_out/loss"], rtol=1e-6)

    # A resume reads its own checkpoint alone.
    encoder = trees.on_host(loading.load(tmp_path / "first").params["encoder"])
    shutil.rmtree(tmp_path / "first")
    moving = dataclasses.replace(still, lr=1e-2, warmup="0 steps")
    loop.train(dataclasses.replace(second, duration="3 steps", optimizer=moving), tmp_path / "second")
    ended = loading.load(tmp_path / "second")
    jax.tree.map(np.testing.assert_array_equal, trees.on_host(ended.params["encoder"]), encoder)
    assert ended.config.init_from == str(tmp_path / "first")
    with pytest.raises(ConfigError, match=r"optimizer\.lr_multipliers"):
        other = dataclasses.replace(moving, lr_multipliers=())
        loop.train(dataclasses.replace(second, duration="4 steps", optimizer=other), tmp_path / "second")


@pytest.mark.parametrize("mesh", [sections.Mesh(data=1, fsdp=2), sections.Mesh(data=1, fsdp=2, tensor=2)])
@pytest.mark.parametrize("name", ["a run", "timm_siglip_gap"])
def test_weights_are_the_same_split_over_devices_as_on_one(name: str, mesh: sections.Mesh) -> None:
    # The released encoder comes with another grid: what is resampled is split, too.
    settings = whole() if name == "a run" else config(GOLDEN / name, TIMM, size=20, mean=(102.0,) * 3, std=(76.5,) * 3)
    expected, _ = initial.start(settings, TOKENIZER, fresh(settings))
    shapes = fresh(settings)
    devices = jax.make_mesh(
        (mesh.data, mesh.fsdp, mesh.tensor),
        sharding.AXES,
        axis_types=(jax.sharding.AxisType.Auto,) * 3,
        devices=jax.devices()[: mesh.fsdp * mesh.tensor],
    )
    places = sharding.shardings(shapes, devices)
    found, _ = initial.start(settings, TOKENIZER, jax.device_put(shapes, places))
    jax.tree.map(lambda leaf, place: (leaf.sharding == place) or pytest.fail(f"{leaf.sharding}"), found, places)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    kernel = found["encoder"]["blocks"]["attention"]["query"]["kernel"]
    assert kernel.addressable_shards[0].data.size == kernel.size // (mesh.fsdp * mesh.tensor)
