import pathlib

import pytest

from tests.end_to_end import command_line


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The workdir of a tiny run on one device that nothing happened to."""
    workdir = tmp_path_factory.mktemp("undisturbed")
    command_line.train(workdir)
    return workdir
