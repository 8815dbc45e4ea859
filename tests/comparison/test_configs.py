"""Every shipped comparison resolves to runs that could start, whatever its size."""

import dataclasses
import itertools

import pytest
from etils import epath

from mdc_jax import command
from mdc_jax.comparison import execution, plan, settings
from mdc_jax.config import ConfigError
from mdc_jax.data.sources import open_source

SIZES = {
    "compare_scenes": ("quick", "cpu", "full", "ablations", "padding", "position", "ratios", "pairs", "smoke"),
    "compare_collage": ("quick", "cpu", "full"),
    "compare_pictures": ("quick", "cpu", "full", "ablations"),
    "compare_recap": ("objectives", "pairs"),
}
ALL = [f"configs/{name}.py:{size}" for name, sizes in SIZES.items() for size in sizes]


def test_every_comparison_is_tested():
    shipped = {path.stem for path in epath.Path("configs").glob("compare_*.py")}
    assert shipped == set(SIZES)


@pytest.mark.parametrize("config", ALL)
def test_runs_differ_from_each_other_in_nothing_but_what_they_compare(config):
    found = settings.parse(command.load(config))
    workdir = epath.Path("/nowhere")
    runs = {name: plan.config_of(found, plan.Run(name, 3), workdir, found.steps) for name in found.order}
    first = runs[found.order[0]]
    for name, run in runs.items():
        assert run.seed == 3
        assert run.objective.name == found.entries[name].objective
        assert (run.data.batch_size, run.data.test, run.image) == (first.data.batch_size, first.data.test, first.image)
        assert run.model.encoder == first.model.encoder
        optimizer = dataclasses.replace(first.optimizer, lr=found.entries[name].lr or first.optimizer.lr)
        assert (run.duration, run.optimizer) == (first.duration, optimizer)
        assert "probe" in run.evaluators and "held_out" in run.evaluators
        writes = {"captions", "perplexity"} & set(found.evaluators)
        assert (writes <= set(run.evaluators)) == run.objective.writes_captions or not writes
    distinct = list(runs.values())
    assert all(a != b for a, b in itertools.combinations(distinct, 2))


def test_knobs_of_scenes_reach_the_data():
    found = settings.parse(command.load("configs/compare_scenes.py:quick,prior=.5,sentences=2,steps=70,equal=flops"))
    config = plan.config_of(found, plan.Run("clip", 0), epath.Path("/nowhere"), 60)
    assert "sentences=2" in config.data.train and "prior=0.5" in config.data.train
    assert (found.steps, config.duration, config.optimizer.warmup, found.equal) == (70, "60 steps", "3 steps", "flops")


def test_the_background_reaches_the_data_of_all_splits():
    knobs = "background=last,redundancy=.8,lengths=natural"
    found = settings.parse(command.load(f"configs/compare_scenes.py:position,{knobs}"))
    for name in found.order:
        data = plan.config_of(found, plan.Run(name, 0), epath.Path("/nowhere"), found.steps).data
        for spec in (data.train, data.validation, data.test):
            assert {"background=last", "redundancy=0.8", "lengths=natural", "sentences=2"} <= {*spec.split(",")}


def test_epochs_are_passes_over_the_pairs_that_there_are():
    found = settings.parse(command.load("configs/compare_scenes.py:ratios,sentences=4,count=4k,epochs=20"))
    config = plan.config_of(found, plan.Run("masked_lm_30", 0), epath.Path("/nowhere"), found.steps)
    assert len(open_source(config.data.train)) == 4000
    assert found.steps == 20 * 4000 // config.data.batch_size and config.duration == f"{found.steps} steps"
    for wrong in ("epochs=20", "epochs=20,count=4k,steps=3", "epochs=-1,count=4k"):
        with pytest.raises(ConfigError, match=r"epochs= takes the place of steps=, and needs count="):
            command.load(f"configs/compare_scenes.py:ratios,{wrong}")


def test_no_count_of_pairs_is_left_without_effect():
    found = settings.parse(command.load("configs/compare_scenes.py:smoke,count=2k"))
    config = plan.config_of(found, plan.Run("autoregressive", 0), epath.Path("/nowhere"), found.steps)
    assert config.data.train.startswith("subset:2k:") and config.log.every == "1 steps"
    with pytest.raises(ConfigError, match="count=2k: the entries of pairs have counts of their own"):
        command.load("configs/compare_scenes.py:pairs,count=2k")


def test_settings_of_all_entries_leave_the_count_of_pairs_alone():
    config = command.load("configs/compare_scenes.py:quick,count=16k")
    with config.unlocked():
        config.settings = ("checkpoint.keep_latest=10",)
    found = settings.parse(config)
    for name in found.order:
        run = plan.config_of(found, plan.Run(name, 0), epath.Path("/nowhere"), found.steps)
        assert run.data.train.startswith("subset:16k:") and run.checkpoint.keep_latest == 10


def test_what_is_quick_says_what_it_lacks():
    notes = " ".join(settings.parse(command.load("configs/compare_scenes.py")).notes)
    assert "no controls" in notes and "not tuned" in notes
    with pytest.raises(ConfigError, match="choose one of quick, full"):
        command.load("configs/compare_scenes.py:quick,full")


@pytest.mark.parametrize(
    "size", ["cpu", pytest.param("full", marks=pytest.mark.long), "ablations", "position", "padding"]
)
def test_all_entries_on_scenes_can_be_trained_and_evaluated(size):
    found = settings.parse(command.load(f"configs/compare_scenes.py:{size}"))
    execution.check(found, plan.runs(found, found.order))
