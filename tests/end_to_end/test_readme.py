"""Every command that the READMEs of the project, of its results and of its benchmarks show works, in their order."""

import json
import math
import os
import pathlib
import re
import shlex
import subprocess
import sys

import cv2
import numpy as np
import pytest

from tests import commands
from tests.commands import ROOT

FRONT, *OTHERS = (ROOT / folder / "README.md" for folder in ("", "configs/results", "mdc_jax/benchmarks"))
ONE_DEVICE = {"XLA_FLAGS": commands.xla_flags(devices=1)}
# Of the second and third run of a config, which evaluate nothing that the first one does not.
FEW_EVALUATORS = ["""'--config.evaluators={"held_out": {"type": "held_out_loss", "examples": 16}}'"""]
# What keeps a command short here: by how it begins, the text to put in and the arguments to add.
SHORTER: dict[str, tuple[dict[str, str], list[str]]] = {
    "bash launch/demo.sh": ({}, ["--config=configs/scenes.py:runlocal"]),
    "bash launch/test.sh": ({}, ["tests/config/test_decoding.py"]),
    "bash launch/setup.sh": ({}, []),
    "source .venv/bin/activate": ({}, []),
    "python -m mdc_jax.main --config=help": ({}, []),
    "python -m mdc_jax.main --config=configs/": ({".py ": ".py:runlocal "}, []),
    "python -m mdc_jax.main --config=configs/scenes.py --workdir=runs/scenes_lr": (
        {".py ": ".py:runlocal "},
        FEW_EVALUATORS,
    ),
    "python -m mdc_jax.main --config=configs/scenes.py --workdir=runs/tuned": (
        {".py ": ".py:runlocal "},
        FEW_EVALUATORS,
    ),
    "python -m mdc_jax.main --config=configs/scenes.py:": ({".py:": ".py:runlocal,"}, []),
    "python -m mdc_jax.main --config=configs/drawings.py:": ({".py:": ".py:runlocal,"}, FEW_EVALUATORS),
    "python -m mdc_jax.main --config=configs/collage.py:": ({".py:": ".py:runlocal,"}, []),
    "python -m mdc_jax.main --config=configs/pictures.py --workdir=runs/pictures_permuted": (
        {".py ": ".py:runlocal "},
        FEW_EVALUATORS,
    ),
    "python -m mdc_jax.main --config=configs/pictures.py:": ({".py:": ".py:runlocal,"}, FEW_EVALUATORS),
    "python -m mdc_jax.report.collect": ({}, []),
    "python -m mdc_jax.benchmarks.train_step": (
        {".py": ".py:runlocal", "32000,256000": "500"},
        ["--config.image.size=32", "--repeats=1", "--rows=plain"],
    ),
    "python -m mdc_jax.benchmarks.scaling": (
        {".py": ".py:runlocal"},
        ["--config.image.size=32", "--repeats=1", "--factors=1"],
    ),
    "python -m mdc_jax.benchmarks.time_to_quality": (
        {":steps=6000": ":runlocal", "--seeds=3": "--seeds=1"},
        ["--points=1", "--only=as_configured"],
    ),
    "python -m mdc_jax.benchmarks.train_loop": ({".py": ".py:runlocal"}, ["--steps=20", "--repeats=1"]),
    "python -m mdc_jax.benchmarks.scenes": ({}, ["scenes:train,size=48"]),
    "python -m mdc_jax.data.prepare.pictures": ({}, ["--from=stamps"]),
    "python -m mdc_jax.data.prepare.pictures --source=tuxpaint,openclipart,emoji": (
        {"tuxpaint,openclipart,emoji": "tuxpaint"},
        ["--from=stamps"],
    ),
    "python -m mdc_jax.evaluate": ({}, []),
    "python -m mdc_jax.evaluate --workdir=runs/scenes --evaluator=perplexity": ({}, ["--set=perplexity.examples=50"]),
    "python -m mdc_jax.evaluate --workdir=runs/scenes --evaluator=lengths": ({}, ["--set=lengths.examples=50"]),
    "python -m mdc_jax.evaluate --workdir=runs/scenes --evaluator=compositionality": (
        {},
        ["--set=compositionality.examples=2", "--set=compositionality.blind_images=2"],
    ),
    "python -m mdc_jax.evaluate --workdir=runs/scenes --evaluator=retrieval": ({}, ["--set=retrieval.examples=10"]),
    "python -m mdc_jax.evaluate --workdir=runs/scenes --evaluator=zero_shot": ({}, ["--set=zero_shot.examples=20"]),
    "python -m mdc_jax.caption": ({}, []),
    "python -m mdc_jax.export": ({}, []),
    "python -m mdc_jax.extract": ({}, []),
    "python -m mdc_jax.benchmarks.extract": ({".py": ".py:runlocal"}, ["--images=2", "--batch_size=1", "--repeats=1"]),
    "python -m mdc_jax.benchmarks.decoding --config": (
        {".py": ".py:runlocal"},
        ["--config.image.size=32", "--config.data.max_tokens=6", "--repeats=1", "--batches=1"],
    ),
    "python -m mdc_jax.benchmarks.probe": (
        {},
        [
            "--examples=500",
            "--validation=200",
            "--width=32",
            "--classes=5",
            "--values=6",
            "--compare=2",
            "--imagenet_rows=200",
        ],
    ),
    "python -m mdc_jax.describe": ({}, []),
}


def shown_commands(*readmes: pathlib.Path) -> list[str]:
    """The lines of the READMEs' blocks marked bash, without comments; continued lines are joined."""
    text = "".join(path.read_text() for path in readmes)
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.join(words) for line in lines if (words := shlex.split(line, comments=True))]


def snippets() -> list[str]:
    """The README's blocks of Python."""
    return re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


def shorter(command: str) -> str:
    prefix = max((prefix for prefix in SHORTER if command.startswith(prefix)), key=len, default=None)
    assert prefix, f"README.md shows a command that no test knows how to run shortly: {command}"
    replacements, extra = SHORTER[prefix]
    for old, new in replacements.items():
        assert old in command
        command = command.replace(old, new)
    return " ".join([command, *extra])


@pytest.fixture
def clone(tmp_path: pathlib.Path) -> pathlib.Path:
    """This repository in a new folder, set up with the interpreter of the tests."""
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    made = {line.strip("/") for line in ignored if line.startswith("/")}  # a user may have run the same commands
    for path in ROOT.iterdir():
        if path.name not in {".git", ".venv", *made}:
            (tmp_path / path.name).symlink_to(path)
    bin_ = tmp_path / ".venv" / "bin"
    bin_.mkdir(parents=True)
    for name, command in {"python": sys.executable, "ruff": f"{sys.executable} -m ruff"}.items():
        (bin_ / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (bin_ / name).chmod(0o755)
    (bin_ / "activate").write_text(f'PATH="{bin_}:$PATH"\n')
    for name in ("requirements.txt", "requirements-dev.txt"):
        (bin_.parent / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / "0.png"), np.full((40, 50, 3), 90, np.uint8))
    stamps = tmp_path / "stamps" / "animals"
    stamps.mkdir(parents=True)
    for index in range(20):
        cv2.imwrite(str(stamps / f"animal{index}.png"), np.full((40, 40, 3), 10 * index, np.uint8))
        (stamps / f"animal{index}.txt").write_text(f"Animal number {index}.\n")
    return tmp_path


def run(command: str, clone: pathlib.Path) -> subprocess.CompletedProcess[str]:
    words = shlex.split(command)
    if words[:2] == ["python", "-m"]:
        return commands.run(*words[2:], cwd=clone, environment=ONE_DEVICE, timeout=600)
    environment = {**os.environ, **ONE_DEVICE}
    return subprocess.run(
        ["bash", "-c", command], cwd=clone, env=environment, capture_output=True, text=True, timeout=600, check=False
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "readmes", [[FRONT], pytest.param([FRONT, *OTHERS], marks=pytest.mark.long)], ids=["front", "all"]
)
def test_every_command(readmes: list[pathlib.Path], clone: pathlib.Path) -> None:
    shown = shown_commands(*readmes)
    assert shown[:2] == ["bash launch/demo.sh", "bash launch/test.sh --fast"]
    for command in shown:
        result = run(shorter(command), clone)
        assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
        if "demo.sh" in command:
            picture = re.search(r"picture: (\S+)", result.stdout)
            assert picture and (clone / picture[1]).exists(), result.stdout
    trained = list((clone / "runs").rglob("results.json"))
    assert len(trained) >= sum(command.startswith("python -m mdc_jax.main --config=configs/") for command in shown)
    for file in trained:
        results = json.loads(file.read_text())["results"]
        assert results and all(value is None or math.isfinite(value) for value in results.values()), file
    for code in snippets():
        result = subprocess.run(
            [sys.executable, "-c", code], cwd=clone, capture_output=True, text=True, timeout=300, check=False
        )
        assert result.returncode == 0, f"{code}\n{result.stderr}"
