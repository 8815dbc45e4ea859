"""Weights from strangers: whatever was done to their files, they are read or refused, and cost no memory."""

import json
import lzma
import pathlib
import random
import shutil
import zipfile

import numpy as np
import pytest
from etils import epath

from mdc_jax import export
from mdc_jax.config import ConfigError
from mdc_jax.exchange import loading, npz, own, safetensors
from tests import tampering
from tests.exchange.make_golden import GOLDEN

RUN = pathlib.Path(__file__).parents[1] / "testdata" / "checkpoint_format_1"
LIBRARIES = ("timm_vit", "timm_siglip_gap", "transformers_vit", "transformers_siglip", "big_vision_siglip")
MEMORY = 2**28  # bytes, far above those files


def tampered(path: pathlib.Path, rng: random.Random) -> None:
    whole = path.read_bytes()
    if path.suffix == ".json":
        path.write_bytes(tampering.text(json.loads(whole), rng))
    elif path.suffix == ".safetensors" and rng.random() < 0.7:
        length = int.from_bytes(whole[:8], "little")
        header = tampering.text(json.loads(whole[8 : 8 + length]), rng)
        path.write_bytes(len(header).to_bytes(8, "little") + header + whole[8 + length :])
    else:
        path.write_bytes(tampering.content(whole, rng))


def outcomes(original: pathlib.Path, place: pathlib.Path, read, count: int) -> set[str]:
    """What `read` makes of a folder in which one file was tampered with, again and again."""
    found, before = set(), tampering.peak_memory()
    for number in range(count):
        rng = random.Random(f"{original.name} {number}")
        folder = pathlib.Path(shutil.copytree(original, place / "stranger", dirs_exist_ok=True))
        tampered(rng.choice(sorted(file for file in folder.iterdir() if file.name != "expected.npz")), rng)
        try:
            read(folder)
            found.add("read")
        except ConfigError:
            found.add("refused")
    assert tampering.peak_memory() < before + MEMORY
    return found


@pytest.mark.parametrize("name", LIBRARIES)
def test_weights_of_other_libraries(name: str, tmp_path: pathlib.Path) -> None:
    file = "weights.npz" if name.startswith("big_vision") else ""
    assert "refused" in outcomes(GOLDEN / name, tmp_path, lambda folder: loading.read_encoder(folder / file), 40)


def test_exports(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export.export(RUN, tmp_path / "own", "mdc_jax")
    (tmp_path / "own" / "README.md").unlink()
    built, build = {}, own.build.objective

    def once(config, vocab_size, mesh, word_starts):
        """Of the settings that decide shapes; to build is slow."""
        key = repr((config.model, config.objective, config.image, config.data.max_tokens, vocab_size))
        if key not in built:
            built[key] = build(config, vocab_size, mesh, word_starts)
        return built[key]

    monkeypatch.setattr(own.build, "objective", once)
    assert "refused" in outcomes(tmp_path / "own", tmp_path, loading.load, 40)


@pytest.mark.parametrize(
    ("header", "size"),
    [
        ([], 0),
        ({"x": []}, 0),
        ({"x": {"dtype": "F32", "shape": [1] * 100, "data_offsets": [0, 4]}}, 4),
        ({"x": {"dtype": "F32", "shape": [0, 2**63], "data_offsets": [0, 0]}}, 0),
    ],
)
def test_a_header_of_another_kind(header: object, size: int, tmp_path: pathlib.Path) -> None:
    text = json.dumps(header).encode()
    path = epath.Path(tmp_path / "x.safetensors")
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(size))
    with pytest.raises(ConfigError, match="no whole safetensors file"):
        safetensors.read(path)


@pytest.mark.parametrize("header", ["(" * 5000, "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), \"", "{1: 0}"])
def test_an_npz_whose_header_is_no_dictionary_of_its_kind(header: str, tmp_path: pathlib.Path) -> None:
    text = header.encode()
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(4))
    with pytest.raises(ConfigError, match="no npz file of plain arrays"):
        npz.read(epath.Path(tmp_path / "x.npz"))


def test_an_npz_in_another_compression_that_is_damaged(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.npy", bytes(range(256)) * 9)
    content = bytearray(path.read_bytes())
    content[60:80] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="no npz file of plain arrays") as error:
        npz.read(epath.Path(path))
    assert isinstance(error.value.__cause__, lzma.LZMAError | zipfile.BadZipFile)


def test_a_long_vector_makes_no_wide_encoder(tmp_path: pathlib.Path) -> None:
    """Fixed positions are computed from the width: 224 x 224 of them, 4 TB wide."""
    arrays = dict(np.load(GOLDEN / "big_vision_sincos_scan" / "weights.npz", allow_pickle=False))
    (norm,) = (name for name in arrays if name.endswith("encoder_norm/scale"))
    (patch,) = (name for name in arrays if name.endswith("embedding/kernel"))
    arrays[norm] = np.zeros(2**20, np.float32)
    arrays[patch] = np.zeros((1, 1, 3, 16), np.float32)
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(ConfigError, match=r"no encoder that can be read|cannot express"):
        loading.read_encoder(tmp_path / "x.npz")
