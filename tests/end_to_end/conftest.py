import pathlib
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.end_to_end import command_line


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The workdir of a tiny run on one device that nothing happened to."""
    workdir = tmp_path_factory.mktemp("undisturbed")
    command_line.train(workdir)
    return workdir


@pytest.fixture
def start_all() -> Iterator[command_line.StartAll]:
    """`command_line.start_all`, whose processes do not outlive the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: Any, **options: Any) -> list[subprocess.Popen[str]]:
        processes = command_line.start_all(*arguments, **options)
        started.extend(processes)
        return processes

    yield start
    for process in started:
        process.kill()
        process.wait()
