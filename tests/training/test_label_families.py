"""An objective of labels takes its families from the data, keeps them with the run, and resumes like any other."""

import dataclasses
import pathlib

import pytest
from etils import epath

from mdc_jax import command
from mdc_jax.config import ConfigError, parse, sections
from mdc_jax.data.sources import open_source
from mdc_jax.training import checkpoint, label_families, loop

TINY = pathlib.Path(__file__).parents[1] / "end_to_end" / "tiny.py"


def config(**changes: object) -> sections.Config:
    tiny = parse(command.load(str(TINY)))
    optimizer = dataclasses.replace(tiny.optimizer, lr=1e-2)  # learns within a few hundred steps
    common = {"objective": sections.Supervised(), "mesh": sections.Mesh(data=1), "optimizer": optimizer}
    return dataclasses.replace(tiny, **{**common, **changes})


def test_only_an_objective_of_labels_is_given_families() -> None:
    source = open_source("scenes:train,size=32")
    captions = config(objective=sections.MaskedDiffusion())
    assert label_families.filled(captions, source) == captions
    assert len(label_families.filled(config(), source).objective.families) == len(source.families)
    one = config(
        objective=sections.Supervised(families=(("count", "class", len(source.families["count"].names), False),))
    )
    assert label_families.filled(one, source) == one
    with pytest.raises(ConfigError, match=r"has \('shape', 'class', 4, False\), but scenes"):
        label_families.filled(config(objective=sections.Supervised(families=(("shape", "class", 4, False),))), source)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.usefixtures("one_device")
def test_a_run_learns_labels_and_resumes_with_the_families_that_it_began_with(tmp_path: pathlib.Path) -> None:
    first = loop.train(config(duration="10 steps"), tmp_path)
    stored = checkpoint.load(epath.Path(tmp_path)).config.objective
    assert {name for name, *_ in stored.families} == {key.removeprefix("held_out/") for key in first} - {"loss"}
    later = loop.train(config(duration="300 steps"), tmp_path)
    assert later["held_out/loss"] < 0.9 * first["held_out/loss"]
    with pytest.raises(ConfigError, match=r"objective\.families"):
        loop.train(config(duration="300 steps", objective=sections.Supervised(families=stored.families[:1])), tmp_path)
