"""Variants differ from the config and each other; their runs are joined, and trained once."""

import json

import pytest
from etils import epath

from mdc_jax import command
from mdc_jax.benchmarks import time_to_quality
from mdc_jax.config import ConfigError, evaluator
from mdc_jax.report import tables
from mdc_jax.report.learning_curves import MEAN
from mdc_jax.report.metrics_file import METRICS_FILE
from tests.end_to_end import tiny


def config():
    settings = tiny.get_config()
    settings.duration = "5 steps"
    with settings.unlocked():
        settings.evaluators.probe = evaluator(
            "linear_probe",
            families=("shape", "count"),
            train_examples=32,
            validation_examples=16,
            test_examples=16,
            batch_size=16,
        )
    return settings


def test_variants_that_repeat_the_config_are_left_out():
    variants = time_to_quality.distinct(config(), [])
    assert {"as_configured", "bernoulli", "4_masks", "interval_0_1_stratified", "padding_target"} <= set(variants)
    assert not {"interval_.5_1", "padding_hidden"} & set(variants)
    assert variants["interval_.2_1"].objective.interval == (0.2, 1.0)
    with pytest.raises(ConfigError, match='no variant "bernouli"; did you mean "bernoulli"'):
        time_to_quality.distinct(config(), ["bernouli"])
    with pytest.raises(ConfigError, match='does not fit the config with objective "clip"'):
        time_to_quality.distinct(command.load("configs/scenes.py:objective=clip"), ["4_masks"])


def test_variants_of_ones_own_set_what_they_say():
    name, settings = time_to_quality.variant("buckets data.buckets=(10,18) objective.masks=bernoulli")
    (changed,) = time_to_quality.distinct(config(), [name], {name: settings}).values()
    assert (changed.data.buckets, changed.objective.masks) == ((10, 18), "bernoulli")
    with pytest.raises(ConfigError, match="write NAME KEY=VALUE"):
        time_to_quality.variant("buckets")
    with pytest.raises(ConfigError, match='variant "x" sets'):
        time_to_quality.distinct(config(), ["x"], dict([time_to_quality.variant("x data.bucket=(10,18)")]))


def test_every_probe_has_its_checkpoint_and_its_seconds():
    settings = time_to_quality.probed(config(), seed=3, points=2)
    assert (settings.seed, settings.duration) == (3, "4 steps")  # a multiple, so that the last point is the end
    assert set(settings.evaluators) == {"probe"} and settings.evaluators["probe"].every == "2 steps"
    assert settings.checkpoint.every == settings.log.every == "2 steps"
    without = tiny.get_config()
    with pytest.raises(ConfigError, match="there is no linear probe"):
        time_to_quality.probed(without, seed=0, points=2)


def test_probes_are_joined_with_the_seconds_of_their_step(tmp_path):
    lines = [
        {"step": 1, "train/seconds": 2.0, "train/loss": 1.0},
        {"step": 2, "train/seconds": 3.0},
        {"step": 2, "probe/shape": 0.5, "probe/count": 0.7},
    ]
    (tmp_path / METRICS_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = time_to_quality.curves(epath.Path(tmp_path))
    assert {metric: curve.tolist() for metric, curve in found.items()} == {
        MEAN: [[2, 3, pytest.approx(0.6)]],
        "probe/shape": [[2, 3, 0.5]],
        "probe/count": [[2, 3, 0.7]],
    }


@pytest.mark.long
@pytest.mark.slow
def test_runs_are_joined_and_finished_ones_are_not_run_again(tmp_path, capsys):
    variants = time_to_quality.distinct(config(), ["4_masks"])
    assert time_to_quality.run(variants, epath.Path(tmp_path), seeds=1, points=2)
    rows = tables.read_csv(epath.Path(tmp_path) / "time_to_quality.csv")
    assert [row["step"] for row in rows if row["metric"] == MEAN] == ["2", "4"]
    assert {row["metric"] for row in rows} == {MEAN, "probe/shape", "probe/count"}
    assert (tmp_path / "time_to_quality.svg").read_text().startswith("<?xml")
    before = (tmp_path / "time_to_quality.csv").read_text()
    assert "is finished" not in capsys.readouterr().out
    assert time_to_quality.run(variants, epath.Path(tmp_path), seeds=1, points=2)
    assert capsys.readouterr().out.count("is finished") == 1
    assert (tmp_path / "time_to_quality.csv").read_text() == before
