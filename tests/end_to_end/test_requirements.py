"""What accelerators need can be installed: each file resolves, for every Python from the oldest that is supported."""

import importlib.util
import subprocess
import sys

import pytest

from tests.end_to_end.command_line import ROOT

OLDEST = "3.11"
OUT_OF_REACH = ("error sending request", "Failed to fetch", "Could not connect", "dns error", "timed out")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "plugin"), [("gpu", "jax-cuda13-plugin"), ("tpu", "libtpu")])
def test_requirements_of_accelerators_resolve(name: str, plugin: str) -> None:
    if importlib.util.find_spec("uv") is None:
        pytest.skip("not run: uv, which resolves for other Pythons, is not installed (requirements-dev.txt)")
    options = ["--quiet", "--universal", f"--python-version={OLDEST}", f"requirements-{name}.txt"]
    command = [sys.executable, "-m", "uv", "pip", "compile", *options]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    if result.returncode and any(sign in result.stderr for sign in OUT_OF_REACH):
        pytest.skip(f"not run: the package index is out of reach: {result.stderr[-300:]}")
    assert result.returncode == 0, result.stderr
    for package in ("jax", plugin):
        found = [line for line in result.stdout.splitlines() if line.startswith(f"{package}==")]
        assert any("python_full_version < '3.12'" in line for line in found), found  # jax 0.11 and later need 3.12
        assert any("python_full_version >= '3.12'" in line for line in found), found
