"""Names from the data, as they are shown."""

import pathlib

import pytest

from mdc_jax.data.texts import readable


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("caf\u00e9.png", "caf\u00e9.png"),
        ("a\udcff.png", "a\\xff.png"),  # a byte of a file's name that is no UTF-8
        ("a\ud800.png", "a\\ud800.png"),  # JSON may hold half of a character
        ("a\n\x1b[2J.png", "a\\n\\x1b[2J.png"),  # would clear the terminal
    ],
)
def test_a_name_can_be_written_and_acts_on_no_terminal(name, shown):
    assert readable(name) == readable(pathlib.PurePosixPath(name)) == shown
    shown.encode()
