"""The `runlocal` form of the shipped configs trains and evaluates; the READMEs' commands run three more."""

import json
import math
import pathlib

import pytest

from tests.end_to_end.command_line import train


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        "configs/collage.py:runlocal,objective=cappa",
        "configs/vitb_recap.py:runlocal,objective=autoregressive",
        *(
            pytest.param(config, marks=pytest.mark.long)
            for config in (
                "configs/scenes.py:runlocal,objective=clip",
                "configs/scenes.py:runlocal,layout=free,objective=autoregressive",
                "configs/pictures.py:runlocal,objective=siglip",
                "configs/cappa.py:runlocal",
                "configs/vits_cc3m.py:runlocal,objective=masked_lm",
                "configs/vitb_cc12m.py:runlocal,objective=parallel",
                "configs/vitl_recap.py:runlocal",
            )
        ),
    ],
)
def test_runlocal(config: str, tmp_path: pathlib.Path) -> None:
    train(tmp_path, config=config)
    results = json.loads((tmp_path / "results.json").read_text())["results"]
    assert results
    assert all(value is None or math.isfinite(value) for value in results.values())
