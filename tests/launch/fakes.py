"""A copy of the launch scripts, and commands on the path that record how they are called."""

import os
import pathlib
import shutil
import subprocess

ROOT = pathlib.Path(__file__).parents[2]


_RECORD = r"""#!/usr/bin/env bash
{ printf '%s\x1f' "${0##*/}" "$@"; printf '\x1e'; } >>"$FAKE/calls"
"""


class Place:
    """A folder with launch/ in it, where scripts see fake commands first on their path."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.root = folder / "a repository"
        self.fake = folder / "fake"
        self.fake.mkdir()
        (folder / "bin").mkdir()
        shutil.copytree(ROOT / "launch", self.root / "launch")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SKYPILOT"))},
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "FAKE": str(self.fake),
        }
        self._bin = folder / "bin"

    def command(self, name: str, body: str = "", folder: pathlib.Path | None = None) -> None:
        """Makes a command that records its arguments and then runs `body` in bash."""
        path = (folder or self._bin) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_RECORD + body)
        path.chmod(0o755)

    def calls(self) -> list[list[str]]:
        """Name and arguments of every call so far."""
        path = self.fake / "calls"
        calls = path.read_text().split("\x1e")[:-1] if path.exists() else []
        return [call.split("\x1f")[:-1] for call in calls]

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=self.root,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*command, **environment)
        stdout, stderr = process.communicate(timeout=60)
        return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)
