"""launch/Dockerfile against the repository. Docker itself is not run: no image is built."""

import fnmatch
import json
import pathlib
import re
import shutil

import pytest

from tests import commands
from tests.launch.fakes import ROOT, Place

TEXT = (ROOT / "launch" / "Dockerfile").read_text()
README = (ROOT / "launch" / "README.md").read_text()
IGNORED = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
INSTRUCTIONS = [
    (name, rest.replace("\\\n", ""))
    for name, rest in re.findall(r"^([A-Z]+) ((?:.*\\\n)*.*)$", re.sub(r"^#.*\n", "", TEXT, flags=re.M), re.M)
]


def given(name: str) -> list[str]:
    """What stands behind each instruction of that name."""
    return [rest for instruction, rest in INSTRUCTIONS if instruction == name]


def is_sent(path: pathlib.PurePath) -> bool:
    """Whether .dockerignore lets a file of the repository through: the last pattern for it or a parent rules."""
    sent = True
    for pattern in IGNORED:
        if any(fnmatch.fnmatchcase(str(place), pattern.removeprefix("!")) for place in (path, *path.parents)):
            sent = pattern.startswith("!")
    return sent


def test_the_image_has_what_its_command_needs_and_nothing_that_running_wrote(tmp_path: pathlib.Path) -> None:
    for *sources, _ in map(str.split, given("COPY")):
        for source in sources:
            found = [file for path in ROOT.glob(source) for file in (path, *path.rglob("*")) if file.is_file()]
            files = [file.relative_to(ROOT) for file in found if "__pycache__" not in file.parts]
            assert files, f"COPY {source}"
            for file in files:
                assert is_sent(file), file
                (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / file, tmp_path / file)
    for written in ("runs/a/checkpoints/1/meta", ".git/config", ".venv/bin/python", "mdc_jax/data/__pycache__/a.pyc"):
        assert not is_sent(pathlib.PurePath(written)), written
    (command,) = map(json.loads, given("CMD"))
    assert command[:2] == ["python", "-m"]
    done = commands.run(*command[2:], cwd=tmp_path)
    assert done.returncode == 0 and "configs/scenes.py" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("accelerator", "file"),
    [("cpu", "requirements.txt"), ("gpu", "requirements-gpu.txt"), ("tpu", "requirements-tpu.txt")],
)
def test_each_accelerator_has_its_requirements(place: Place, accelerator: str, file: str) -> None:
    place.command("pip")
    (install,) = (run for run in given("RUN") if "pip" in run)
    assert place.run("sh", "-ec", install, ACCELERATOR=accelerator).returncode == 0
    assert place.calls() == [["pip", "install", "--no-cache-dir", "-r", file]]
    assert (ROOT / file).exists() and fnmatch.fnmatchcase(file, "requirements*.txt")
    assert given("ARG") == ["ACCELERATOR=cpu"]
    assert "`ACCELERATOR` is `cpu` (the default), `gpu` or `tpu`" in README


def test_what_runs_is_not_root_and_has_a_home() -> None:
    assert [name for name, _ in INSTRUCTIONS][-2:] == ["USER", "CMD"]
    (user,) = given("USER")
    (made,) = (run for run in given("RUN") if "useradd" in run)
    assert re.search(rf"useradd --create-home {user}\b", made) and user != "root"
    (home,) = re.findall(r"HOME=(\S+)", " ".join(given("ENV")))
    assert home == f"/home/{user}" and f"chmod 777 {home}" in made  # whatever --user it is started with


def test_its_commands_are_those_of_the_readme() -> None:
    shown = re.findall(r"^    (docker build .*|mkdir .*|docker run (?:.*\\\n)*.*)$", README, re.MULTILINE)
    stated = re.findall(r"^#   (docker build .*|mkdir .*|docker run (?:.*\\\n#)*.*)$", TEXT, re.MULTILINE)
    assert len(shown) == 3
    assert [line.split() for line in shown] == [line.replace("\n#", "\n").split() for line in stated]
