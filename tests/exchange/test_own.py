"""An exported model is the model, and a file that was tampered with is refused before it costs memory."""

import dataclasses
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
from etils import epath

import mdc_jax
from mdc_jax import export
from mdc_jax.config import ConfigError, sections
from mdc_jax.exchange import loading, model_card, safetensors, trees
from mdc_jax.training import checkpoint

RUN = pathlib.Path(__file__).parents[1] / "testdata" / "checkpoint_format_1"


@pytest.fixture(scope="module")
def loaded() -> checkpoint.Loaded:
    return loading.load(RUN)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    out = tmp_path_factory.mktemp("own") / "out"
    export.export(RUN, out, "mdc_jax", licence="cc-by-4.0")
    return out


def test_an_export_is_the_run_bit_for_bit(loaded: checkpoint.Loaded, exported: pathlib.Path) -> None:
    copy = loading.load(exported)
    jax.tree.map(np.testing.assert_array_equal, loaded.params, copy.params)
    assert (copy.config, copy.tokenizer.hash, copy.step) == (loaded.config, loaded.tokenizer.hash, loaded.step)


def test_an_export_is_loaded_like_a_run(exported: pathlib.Path) -> None:
    features = mdc_jax.load(exported, batch_size=8)([np.zeros((48, 48, 3), np.uint8)])
    # Written when the checkpoint was.
    np.testing.assert_allclose(features[0, :4], np.load(RUN / "pooled.npy"), atol=1e-4)


def test_an_export_of_an_export_is_the_same_file(exported: pathlib.Path, tmp_path: pathlib.Path) -> None:
    export.export(exported, tmp_path / "again", "mdc_jax")
    for name in ("model.safetensors", "config.json", "tokenizer.model"):
        assert (tmp_path / "again" / name).read_bytes() == (exported / name).read_bytes()


def test_the_card_says_where_it_comes_from(exported: pathlib.Path) -> None:
    card = (exported / "README.md").read_text()
    for word in ('license: "cc-by-4.0"', "scenes:train", "48 x 48 pixels", "masked_diffusion", "mdc_jax.load"):
        assert word in card


def test_probes_and_the_licence_of_the_data_reach_the_card(loaded: checkpoint.Loaded, tmp_path: pathlib.Path) -> None:
    data = dataclasses.replace(loaded.config.data, train=f"pictures:{tmp_path}:train")
    loaded = dataclasses.replace(loaded, config=dataclasses.replace(loaded.config, data=data))
    for step, name, value in (("3", "features", ".9"), ("3", "linear_probe", ".8"), ("3_changed", "features", ".1")):
        folder = tmp_path / "evaluations" / step / name
        folder.mkdir(parents=True)
        (folder / "probe.md").write_text(f"# Linear probes\n\n| trained | {value} |\n")
    (tmp_path / "manifest.json").write_text(json.dumps({"licence": "GPL-2"}))
    text = model_card.card(loaded, "mdc_jax", epath.Path("out"), epath.Path(tmp_path), "")
    for part in ("### Linear probes", "| trained | .9 |", "| trained | .8 |", "Not stated", "- licence: GPL-2"):
        assert part in text
    assert ".1 |" not in text  # a probe with other settings


def test_the_licence_of_data_in_a_bucket_reaches_the_card(loaded: checkpoint.Loaded, monkeypatch) -> None:
    data = dataclasses.replace(loaded.config.data, train="array_record:gs://bucket/recap:train+folder:photos")
    loaded = dataclasses.replace(loaded, config=dataclasses.replace(loaded.config, data=data))
    known = {epath.Path("gs://bucket/recap/manifest.json"): {"licence": "CC-BY-4.0"}}
    monkeypatch.setattr(model_card, "_json", lambda path: known.get(path, {}))
    assert "- licence: CC-BY-4.0" in model_card.card(loaded, "mdc_jax", epath.Path("out"), epath.Path("run"), "")


def test_a_probe_on_another_data_set_reaches_the_card_where_it_is_of_these_weights(
    loaded: checkpoint.Loaded, tmp_path: pathlib.Path
) -> None:
    sources = {split: {"source": f"tfds:cifar10:{split}", "hash": ""} for split in ("train", "validation", "test")}
    about = {"weights": trees.sha256(trees.on_host(loaded.params["encoder"])), "step": 3, "splits": sources}
    for name, changed, dataset in (("own", {}, "cifar10"), ("compared", {}, ""), ("other", {"weights": "0" * 64}, "")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "probe.md").write_text(f"# Probes\n\n| {name} | .7 |\n")
        (folder / "probe.json").write_text(json.dumps({**about, **changed, "settings": {"dataset": dataset}}))
    export.export(RUN, tmp_path / "out", "mdc_jax", probes=[tmp_path / "own", tmp_path / "compared"])
    card = (tmp_path / "out" / "README.md").read_text()
    for part in ("### Probes", "| own | .7 |", "Probed on `cifar10`: train `tfds:cifar10:train`,", "| compared | .7 |"):
        assert part in card
    (tmp_path / "empty").mkdir()
    for name, words in (("other", "is of other weights"), ("empty", "holds no probe.md")):
        with pytest.raises(ConfigError, match=words):
            model_card.card(loaded, "mdc_jax", epath.Path("out"), epath.Path("none"), "", [epath.Path(tmp_path / name)])


def test_the_card_says_what_taught_the_weights_and_where_they_started(loaded: checkpoint.Loaded) -> None:
    captions = model_card.card(loaded, "mdc_jax", epath.Path("out"), epath.Path("none"), "")
    assert "trained through captions" in captions and "Training started" not in captions
    config = dataclasses.replace(loaded.config, init_from="vit_base.npz", objective=sections.Supervised())
    loaded = dataclasses.replace(loaded, config=config)
    labels = model_card.card(loaded, "mdc_jax", epath.Path("out"), epath.Path("none"), "")
    assert "trained on labels" in labels and "weights of `vit_base.npz`, whose data and licence bind" in labels


def test_a_folder_that_holds_something_is_left_alone(exported: pathlib.Path) -> None:
    with pytest.raises(ConfigError, match="name a new folder"):
        export.export(RUN, exported, "mdc_jax")


def test_a_step_of_an_export(exported: pathlib.Path) -> None:
    with pytest.raises(ConfigError, match="leave out the step"):
        loading.load(exported, step=3)


def copy_of(exported: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(exported, tmp_path / "copy"))


def test_weights_that_do_not_fit_the_config(exported: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = copy_of(exported, tmp_path)
    file = epath.Path(folder / "model.safetensors")
    tensors = safetensors.read(file)
    tensors["encoder/norm/scale"] = tensors["encoder/norm/scale"][:-1]
    safetensors.write(file, tensors, {})
    with pytest.raises(ConfigError, match=r"encoder/norm/scale: .*expected"):
        loading.load(folder)


def test_another_tokenizer(exported: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = copy_of(exported, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tokenizer": "0" * 64}))
    with pytest.raises(ConfigError, match="hash"):
        loading.load(folder)
    (folder / "config.json").write_text(json.dumps({**config, "format_version": 99}))
    with pytest.raises(ConfigError, match="update mdc_jax"):
        loading.load(folder)


TENSORS = {
    "b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.asarray(3, np.int64),
    "half": np.ones((2, 0), np.float16),
    "brain": np.asarray([1.5, -2], jax.numpy.bfloat16),
    "column": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
}


def test_safetensors_come_back(tmp_path: pathlib.Path) -> None:
    path = epath.Path(tmp_path / "x.safetensors")
    safetensors.write(path, TENSORS, {"by": "test"})
    found = safetensors.read(path)
    assert found.keys() == TENSORS.keys()
    for name, expected in TENSORS.items():
        assert found[name].dtype == expected.dtype and found[name].shape == expected.shape
        np.testing.assert_array_equal(found[name], expected)


def changed(path: epath.Path, edit) -> None:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    text = json.dumps(edit(json.loads(data[8 : 8 + length]))).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 4 << 40]},
        {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [-2, -3], "data_offsets": [0, 24]},
        {"dtype": "F32", "shape": [2, 3], "data_offsets": [8, 32]},
        {"dtype": "O", "shape": [3], "data_offsets": [0, 24]},
        {"dtype": "F32", "shape": None, "data_offsets": [0, 24]},
        {"shape": [3]},
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: pathlib.Path, entry: dict) -> None:
    path = epath.Path(tmp_path / "x.safetensors")
    safetensors.write(path, {"x": np.zeros((2, 3), np.float32)}, {})
    changed(path, lambda header: {"x": entry})
    with pytest.raises(ConfigError, match="no whole safetensors file"):
        safetensors.read(path)


def test_two_tensors_never_share_bytes(tmp_path: pathlib.Path) -> None:
    path = epath.Path(tmp_path / "x.safetensors")
    safetensors.write(path, {"x": np.zeros((2, 3), np.float32)}, {})
    changed(path, lambda header: {"x": header["x"], "y": header["x"]})
    with pytest.raises(ConfigError, match="no whole"):
        safetensors.read(path)


@pytest.mark.parametrize("content", [b"", b"\x80\x04garbage", b"\xff" * 64, (10).to_bytes(8, "little") + b"[" * 10])
def test_what_is_no_safetensors_file(tmp_path: pathlib.Path, content: bytes) -> None:
    path = epath.Path(tmp_path / "x.safetensors")
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="safetensors file"):
        safetensors.read(path)


def test_a_file_that_was_cut_off(tmp_path: pathlib.Path) -> None:
    path = epath.Path(tmp_path / "x.safetensors")
    safetensors.write(path, TENSORS, {})
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ConfigError, match="fetch it again"):
        safetensors.read(path)


def test_trees_are_flat_and_nested() -> None:
    tree = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    assert trees.flat(tree) == {"a/b": 1, "a/c/d": 2, "e": 3}
    assert trees.nested(trees.flat(tree)) == tree
