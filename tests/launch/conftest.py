import pathlib

import pytest

from tests.launch.fakes import Place


@pytest.fixture
def place(tmp_path: pathlib.Path) -> Place:
    return Place(tmp_path)
