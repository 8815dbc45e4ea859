"""The table has every row, as shares of the first."""

import re

import pytest

from mdc_jax import command
from mdc_jax.benchmarks import extract
from mdc_jax.config import parse


@pytest.mark.slow
def test_rows_are_shares_of_the_encoders_speed(tmp_path):
    encoder = extract.untrained(parse(command.load("configs/scenes.py:runlocal")), batch_size=8)
    found = extract.measure(encoder, images=16, repeats=1, folder=tmp_path)
    rows = dict(re.findall(r"^\| (.+?) +\| +[\d.,]+ +\| +(\d\.\d{3})", extract.table(found, 16), re.MULTILINE))
    assert list(rows) == ["encoder alone", "arrays", "JPEG files"]
    assert rows["encoder alone"] == "1.000"
