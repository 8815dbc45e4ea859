"""The command: files, folders and patterns; bad ones are named and skipped; the page has what was written."""

import os
import pathlib
import re

import numpy as np
import PIL.Image
import pytest

from mdc_jax import caption
from mdc_jax.config import ConfigError
from tests import commands

CHECKPOINT = commands.ROOT / "tests" / "testdata" / "checkpoint_format_1"


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png", "more/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        PIL.Image.fromarray(rng.integers(0, 256, (40, 50, 3)).astype(np.uint8)).save(tmp_path / name)
    (tmp_path / "bad.png").write_bytes(b"nonsense")
    return tmp_path


def test_files_folders_and_patterns(folder):
    found = [path.relative_to(folder).as_posix() for path in caption.find([str(folder)])]
    assert found == ["a.png", "b.png", "bad.png", "more/c.png"]
    assert list(caption.find([f"{folder}/*a*.png"])) == [folder / "a.png", folder / "bad.png"]
    assert list(caption.find([f"{folder}/**/c.png"])) == [folder / "more" / "c.png"]
    (folder / "empty").mkdir()
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    matched = [path.relative_to(folder).as_posix() for path in caption.find([f"{folder}/*"])]
    assert matched == ["a.png", "b.png", "bad.png", "gone.png", "more/c.png"]
    with pytest.raises(ConfigError, match="no such file"):
        list(caption.find([f"{folder}/*.jpg"]))


def test_a_subfolder_that_cannot_be_read_is_named(folder, monkeypatch, capsys):
    scan = os.scandir

    def scandir(place):
        if pathlib.Path(place).name == "more":  # as modes do, but also for root
            raise PermissionError(13, "Permission denied", str(place))
        return scan(place)

    monkeypatch.setattr(os, "scandir", scandir)
    assert [path.name for path in caption.find([str(folder)])] == ["a.png", "b.png", "bad.png"]
    assert capsys.readouterr().err == f"skipped {folder / 'more'}: Permission denied\n"


def run(*arguments):
    return commands.run("mdc_jax.caption", f"--workdir={CHECKPOINT}", *arguments)


@pytest.mark.slow
def test_images_are_captioned_and_bad_ones_skipped(folder):
    page = folder / "pages" / "page.html"
    (folder / "more" / "c.png").rename(folder / "more" / "\udcff.png")
    result = run(
        folder, f"{folder}/more/../a.png", "--show_steps", f"--html={page}", "--tokens=5", "--order=random", "--steps=2"
    )
    assert result.returncode == 0, result.stderr
    assert f"skipped {folder / 'bad.png'}: unknown format" in result.stderr
    assert len(re.findall(r"log p -\d+\.\d+ ± \d+\.\d+ nats \(elbo, bound\)", result.stdout)) == 3
    assert re.findall(r"^ +(\d)  ", result.stdout, re.MULTILINE) == ["0", "1"] * 3
    assert page.read_text().count('class="emerging"') == 3
    assert r"more/\xff.png" in result.stdout and r"more/\xff.png" in page.read_text()


@pytest.mark.slow
def test_what_cannot_be_captioned_is_said(folder):
    assert "none of the images can be read" in run(folder / "bad.png").stderr
    assert "name at least one image" in run().stderr
    assert "name a file in it" in run(folder / "a.png", f"--html={folder}").stderr
    assert "no file can be written there" in run(folder / "a.png", f"--html={folder}/a.png/page.html").stderr
    picture = (folder / "a.png").read_bytes()
    assert "name the page so that it ends in .html" in run(folder / "a.png", f"--html={folder}/a.png").stderr
    assert (folder / "a.png").read_bytes() == picture
    assert "decoding.beams=3" in run(folder / "a.png", "--beams=3").stderr
    assert "seed" in (refused := run(folder / "a.png", f"--seed={10**20}")).stderr and "Traceback" not in refused.stderr
