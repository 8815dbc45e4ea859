"""Every script of launch/ is valid bash, and passes ShellCheck."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from tests.launch.fakes import ROOT

SCRIPTS = [*sorted((ROOT / "launch").glob("*.s*h")), ROOT / ".ci" / "run"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_valid_shell(script: pathlib.Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)
    linter = shutil.which("shellcheck", path=f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if not linter:
        pytest.skip("ShellCheck is not installed: pip install -r requirements-dev.txt")
    result = subprocess.run([linter, script], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
