"""launch/setup.sh, without a network: fake interpreters, and nothing to install."""

import os
import pathlib
import shlex
import shutil
import subprocess
import sys

import pytest

from tests.launch.fakes import ROOT

REAL = f'#!/bin/sh\nexec "{sys.executable}" "$@"\n'
SHIM = "#!/bin/sh\necho 'pyenv: command not found' >&2\nexit 127\n"
OLD = "#!/bin/sh\nexit 1\n"  # fails the check of the version
WITHOUT_VENV = '#!/bin/sh\ncase "$*" in *ensurepip*) exit 1;; esac\n'


@pytest.fixture
def repository(tmp_path: pathlib.Path) -> pathlib.Path:
    """The launch scripts, beside requirements that ask for nothing."""
    root = tmp_path / "a repository"
    shutil.copytree(ROOT / "launch", root / "launch")
    (root / "requirements.txt").touch()
    (root / "requirements-dev.txt").touch()
    return root


def set_up(root: pathlib.Path, *arguments: str, **interpreters: str) -> subprocess.CompletedProcess[str]:
    """Runs setup.sh where these interpreters, given by their scripts, hide all real ones."""
    folder = root.parent / "path"
    folder.mkdir(exist_ok=True)
    for name in ("python3.13", "python3.12", "python3.11", "python3"):
        path = folder / name
        path.write_text(interpreters.get(name.replace(".", "_"), SHIM))
        path.chmod(0o755)
    return subprocess.run(
        ["bash", "launch/setup.sh", *arguments],
        cwd=root,
        env={**os.environ, "PATH": f"{folder}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_setup_installs_once_and_again_after_a_change_or_a_failure(repository: pathlib.Path) -> None:
    first = set_up(repository, python3_13=OLD, python3_11=REAL)
    assert first.returncode == 0, first.stderr
    assert "requirements.txt" in first.stdout
    assert (repository / ".venv" / "bin" / "python").exists()

    assert set_up(repository).stdout == ""  # .venv is used, whatever is on the path
    assert "requirements-dev.txt" in set_up(repository, "--dev").stdout
    assert set_up(repository, "--dev").stdout == ""

    (repository / "requirements.txt").write_text("./no_such_package\n")
    for _ in range(2):
        failed = set_up(repository)
        assert failed.returncode != 0
        assert "no_such_package" in failed.stderr

    (repository / "requirements.txt").write_text("# changed\n")
    assert "requirements.txt" in set_up(repository, "--dev").stdout
    assert set_up(repository, "--dev").stdout == ""


def test_setup_without_a_recent_python(repository: pathlib.Path) -> None:
    result = set_up(repository, python3=OLD)
    assert result.returncode != 0
    assert "Python 3.11 or newer is needed" in result.stderr
    assert "pyenv" not in result.stderr


def test_setup_without_the_venv_module(repository: pathlib.Path) -> None:
    result = set_up(repository, python3_12=WITHOUT_VENV)
    assert result.returncode != 0
    assert "apt-get install python3.12-venv" in result.stderr


def test_setup_with_a_chosen_python_that_is_none(repository: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON", "/no/such/python")
    result = set_up(repository, python3_12=REAL)
    assert result.returncode != 0
    assert "/no/such/python" in result.stderr


@pytest.mark.parametrize(
    "flags, files",
    [
        (["--torch"], ["exchange-test"]),
        (["--beam"], ["beam"]),
        (["--beam", "--fast", "--torch"], ["beam", "exchange-test"]),
    ],
)
def test_what_only_some_tests_need_is_installed_on_demand(
    repository: pathlib.Path, flags: list[str], files: list[str]
) -> None:
    command = ["bash", "launch/test.sh", "--dry_run", *flags, "tests/data"]
    result = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    *_, install, _, _, tests = result.stdout.splitlines()
    assert install.split()[2:4] == ["pip", "install"]
    assert install.split("-r ")[1:] == [f"requirements-{file}.txt " for file in files]
    assert tests.split()[-1] == "tests/data" and ("slow" in tests) == ("--fast" in flags)


@pytest.mark.parametrize(
    ("flags", "left_out"), [([], "not long"), (["--fast"], "not slow and not long"), (["--all"], None)]
)
def test_long_tests_are_left_out_unless_asked_for(
    repository: pathlib.Path, flags: list[str], left_out: str | None
) -> None:
    command = ["bash", "launch/test.sh", "--dry_run", *flags]
    result = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    words = shlex.split(result.stdout.splitlines()[-1])
    assert words[3:7] == ["-n", "2", "--dist", "worksteal"]
    assert words[7:] == (["-m", left_out] if left_out else [])


@pytest.mark.parametrize(
    "script, printed",
    [
        ("setup.sh", ["-m venv --clear .venv", "-m pip install", "cp requirements.txt .venv"]),
        ("demo.sh", ["-m venv --clear .venv", "--config=configs/scenes.py --workdir=runs/demo -x a\\ b"]),
        ("test.sh", ["-rrequirements-dev.txt", "ruff check .", "-m pytest -n 2 ", "-x a\\ b"]),
    ],
)
def test_a_dry_run_prints_its_commands_and_does_nothing(
    repository: pathlib.Path, script: str, printed: list[str]
) -> None:
    before = sorted(repository.rglob("*"))
    arguments = [] if script == "setup.sh" else ["-x", "a b"]
    result = subprocess.run(
        ["bash", f"launch/{script}", "--dry_run", *arguments],
        cwd=repository,
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    for part in printed:
        assert part in result.stdout
    assert sorted(repository.rglob("*")) == before
