"""What accelerators need can be installed: every file of requirements resolves, on the oldest and newest Python."""

import importlib.util
import os
import subprocess
import sys

import pytest

from tests.end_to_end.command_line import ROOT


@pytest.mark.slow
@pytest.mark.parametrize("python", ["3.11", "3.13"])
@pytest.mark.parametrize(
    ("file", "expected"), [("requirements-gpu.txt", "jax-cuda13-plugin"), ("requirements-tpu.txt", "libtpu")]
)
def test_requirements_of_accelerators_resolve(file: str, expected: str, python: str) -> None:
    if importlib.util.find_spec("uv") is None:
        pytest.skip("not run: uv, which resolves for another Python, is not installed (requirements-dev.txt)")
    command = ["pip", "compile", "--quiet", f"--python-version={python}", "--python-platform=x86_64-manylinux_2_31"]
    result = subprocess.run(
        [sys.executable, "-m", "uv", *command, file],
        cwd=ROOT,
        env={**os.environ, "UV_HTTP_TIMEOUT": "30"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    unreachable = ("error sending request", "Failed to fetch", "Could not connect", "dns error", "timed out")
    if result.returncode and any(sign in result.stderr for sign in unreachable):
        pytest.skip(f"not run: the package index is out of reach: {result.stderr[-300:]}")
    assert result.returncode == 0, result.stderr
    assert f"\n{expected}==" in result.stdout and "\njax==" in result.stdout
