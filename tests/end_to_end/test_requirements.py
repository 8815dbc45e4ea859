"""What accelerators need can be installed: each file resolves, for every Python from the oldest that is supported."""

import importlib.util
import subprocess
import sys

import pytest

from tests.end_to_end.command_line import ROOT

OLDEST = "3.11"
OUT_OF_REACH = ("error sending request", "Failed to fetch", "Could not connect", "dns error", "timed out")


def resolve(*files: str, python: tuple[str, ...] = ("--universal", f"--python-version={OLDEST}")) -> str:
    """The versions that uv finds, for all Pythons from the oldest on; skips where there is no uv or no index."""
    if importlib.util.find_spec("uv") is None:
        pytest.skip("not run: uv, which resolves for other Pythons, is not installed (requirements-dev.txt)")
    options = ["--quiet", *python, "--no-annotate", "--no-header", *files]
    command = [sys.executable, "-m", "uv", "pip", "compile", *options]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    if result.returncode and any(sign in result.stderr for sign in OUT_OF_REACH):
        pytest.skip(f"not run: the package index is out of reach: {result.stderr[-300:]}")
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", ["requirements.txt", "requirements-gpu.txt"])
def test_the_pins_of_the_notebooks_hold_all_that_is_required(name: str) -> None:
    pins = (ROOT / "colabs" / "constraints.txt").read_text().splitlines()
    found = resolve(name, "--constraint=colabs/constraints.txt").splitlines()
    plugins = ("jax-cuda", "nvidia-")  # of which jax names the versions itself
    assert [line for line in found if line not in pins and not line.startswith(plugins)] == []
    assert any(line.startswith("jax==") for line in found)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "plugin"), [("gpu", "jax-cuda13-plugin"), ("tpu", "libtpu")])
def test_requirements_of_accelerators_resolve(name: str, plugin: str) -> None:
    lines = resolve(f"requirements-{name}.txt").splitlines()
    for package in ("jax", plugin):
        found = [line for line in lines if line.startswith(f"{package}==")]
        assert any("python_full_version < '3.12'" in line for line in found), found  # jax 0.11 and later need 3.12
        assert any("python_full_version >= '3.12'" in line for line in found), found


@pytest.mark.slow
@pytest.mark.parametrize("python", [OLDEST, pytest.param("3.13", marks=pytest.mark.long)])
def test_beam_resolves_beside_everything_else(python: str) -> None:
    """On one machine's Python: Beam has no release for the newest one."""
    lines = resolve("requirements-beam.txt", python=(f"--python-version={python}",)).splitlines()
    assert {line.partition("==")[0] for line in lines} >= {"apache-beam", "jax", "grain", "orbax-checkpoint"}
