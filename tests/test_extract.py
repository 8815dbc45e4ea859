"""A folder's features in one file: bad images are named, and a kill at any moment changes nothing of the result."""

import pathlib
import signal
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

from mdc_jax import extract, features
from mdc_jax.config import ConfigError

ROOT = pathlib.Path(__file__).parents[1]
CHECKPOINT = ROOT / "tests" / "testdata" / "checkpoint_format_1"
IMAGES = 150  # three parts of eight batches of eight


@pytest.fixture(scope="module")
def encoder():
    return features.load(CHECKPOINT, batch_size=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    (root / "more").mkdir()
    for index in range(IMAGES):
        pixels = rng.integers(0, 256, (48, 48, 3)).astype(np.uint8)
        PIL.Image.fromarray(pixels).save(root / ("more" if index % 2 else "") / f"{index}.png")
    (root / "bad.png").write_bytes(b"nonsense")
    (root / "gone.png").symlink_to(root / "nowhere.png")
    return root


@pytest.fixture(scope="module")
def undisturbed(encoder, folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "features.npz"
    assert extract.extract(encoder, folder, out, "tokens", 0) == (IMAGES, 2)
    return out


def test_the_file_has_features_by_name(encoder, folder, undisturbed):
    with np.load(undisturbed) as found:
        names, rows = list(found["names"]), found["features"]
        assert sorted(found["skipped"]) == ["bad.png", "gone.png"]
        assert (int(found["step"]), str(found["kind"]), int(found["layer"])) == (encoder.loaded.step, "tokens", 0)
    assert len(names) == IMAGES and names == sorted(names, key=lambda name: name.split("/"))
    some = [0, 70, IMAGES - 1]
    np.testing.assert_allclose(rows[some], encoder([folder / names[i] for i in some], "tokens", 0), atol=1e-5)
    assert not undisturbed.with_name("features.npz.parts").exists()


KILLED = """
import os, pathlib, signal, sys
from mdc_jax import extract, features

replace = os.replace

def replace_or_die(source, target):
    if pathlib.Path(target).name == "000001.npz":
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)

pathlib.Path.replace = os.replace = replace_or_die
encoder = features.load(sys.argv[1], batch_size=8)
extract.extract(encoder, pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]), "tokens", 0)
"""


@pytest.mark.slow
def test_a_killed_extraction_goes_on(encoder, folder, undisturbed, tmp_path):
    out = tmp_path / "features.npz"
    command = [sys.executable, "-c", KILLED, CHECKPOINT, folder, out]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == -signal.SIGKILL, result.stderr
    assert "bad.png: unknown format" in result.stderr and "gone.png: [Errno 2]" in result.stderr
    assert not out.exists() and len(list(tmp_path.glob("features.npz.parts/*.npz"))) == 1
    assert extract.extract(encoder, folder, out, "tokens", 0) == (IMAGES, 2)
    assert out.read_bytes() == undisturbed.read_bytes()


def test_parts_of_something_else_are_not_taken(encoder, folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "features.npz"

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(extract.Parts, "finish", stop)
        with pytest.raises(KeyboardInterrupt):
            extract.extract(encoder, folder, out)
    with pytest.raises(ConfigError, match="other kind, layer: remove it"):
        extract.extract(encoder, folder, out, "tokens", 0)
    extract.extract(encoder, folder, out)  # has nothing left but to join
    assert capsys.readouterr().err.count("skipped") == 2  # by the first call alone


def test_a_finished_file_is_found_and_one_of_something_else_is_not_taken(encoder, folder, undisturbed, monkeypatch):
    before = undisturbed.read_bytes()
    left = undisturbed.with_name("features.npz.parts")  # by a call that was killed as it removed them
    left.mkdir()
    (left / "000001.npz").touch()
    with monkeypatch.context() as patched:
        patched.setattr(type(encoder), "stream", None)  # nothing is encoded
        assert extract.extract(encoder, folder, undisturbed, "tokens", 0) == (IMAGES, 2)
        with pytest.raises(ConfigError, match="is there already, made of other layer: remove it"):
            extract.extract(encoder, folder, undisturbed, "tokens", 1)
    assert undisturbed.read_bytes() == before and not left.exists()


def test_a_file_of_another_kind_is_not_taken(encoder, folder, tmp_path):
    out = tmp_path / "features.npz"
    for other in (out.touch, lambda: out.write_bytes(b"nonsense"), lambda: np.savez(out, features=np.zeros(3))):
        other()
        with pytest.raises(ConfigError, match="is there already"):
            extract.extract(encoder, folder, out)


def test_a_file_that_cannot_be_read_is_not_said_to_be_made_of_other_things(encoder, folder, tmp_path):
    with pytest.raises(ConfigError, match=r"is there already and cannot be read: .*Is a directory"):
        extract.extract(encoder, folder, tmp_path)


def test_a_name_that_would_act_on_a_terminal_is_spelled(encoder, folder, tmp_path, capsys):
    (tmp_path / "a\x1b[2J.png").write_bytes(b"nonsense")
    (tmp_path / "good.png").write_bytes((folder / "0.png").read_bytes())
    assert extract.extract(encoder, tmp_path, tmp_path / "features.npz") == (1, 1)
    assert f"skipped {tmp_path}/a\\x1b[2J.png: " in capsys.readouterr().err


def test_what_cannot_be_extracted_is_said(encoder, tmp_path):
    with pytest.raises(ConfigError, match="no image in this folder"):
        extract.extract(encoder, tmp_path, tmp_path / "out.npz")
    (tmp_path / "bad.png").write_bytes(b"nonsense")
    with pytest.raises(ConfigError, match="layer 99"):
        extract.extract(encoder, tmp_path, tmp_path / "out.npz", layer=99)
    with pytest.raises(ConfigError, match="none of the images can be read"):
        extract.extract(encoder, tmp_path, tmp_path / "out.npz")
