"""What a comparison would take elsewhere: hours from FLOPs, a verdict on the memory, and commands that can be given."""

import shlex
import types

import pytest

from mdc_jax import command
from mdc_jax.comparison import estimate, execution, settings
from mdc_jax.config import ConfigError, parse
from mdc_jax.training import dry_compile, topology
from tests.comparison import tiny


def _text(target="v5e:1x1", mfu=0.5, **changed):
    config = tiny.comparison(1000)
    config.seeds = (0, 1)
    config.entries.autoregressive.lr = 0.02
    config.update(changed)
    found = settings.parse(config)
    return estimate.text(found, execution.choose(found), target, mfu)


def test_hours_are_flops_at_a_share_of_the_peak(monkeypatch):
    # A second of a v5e at its peak is 197 TFLOP: 8 images of 197 TFLOP each take 16 s at half of it.
    plan = types.SimpleNamespace(flops=8 * 197e12, device_kind="TPU v5 lite", compiled="no room")
    monkeypatch.setattr(dry_compile, "plan", lambda config, target: plan)
    (row,) = [line for line in _text().splitlines() if line.startswith("| masked_diffusion")]
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    hours = 2 * 1000 * 16 / 3600  # two runs of 1,000 steps
    assert cells == ["masked_diffusion", "2", "8e+03", "1.58", f"{hours:,.0f}", "does not fit: no room"]


def test_without_the_compiler_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(topology.importlib.util, "find_spec", lambda name: None)
    assert "pip install -r requirements-tpu-compile.txt" in _text()
    with pytest.raises(ConfigError, match="expected a kind and a layout"):
        _text("v5e")


def test_other_errors_are_not_taken_for_a_missing_compiler(monkeypatch):
    def plan(config, target):
        raise ConfigError("a tokenizer is not installed")

    monkeypatch.setattr(dry_compile, "plan", plan)
    with pytest.raises(ConfigError, match="a tokenizer is not installed"):
        _text()


def test_epochs_of_data_that_is_not_there_are_not_zero_hours(monkeypatch):
    monkeypatch.setattr(topology.importlib.util, "find_spec", lambda name: None)
    absent = "data.train=array_record:/nowhere/train"
    assert "8e+03" in _text(settings=(absent,))  # steps need no data
    with pytest.raises(ConfigError, match="array_record:/nowhere/train"):
        _text(steps=0, settings=(absent, "duration=2 epochs"))


def test_controls_take_the_rate_of_what_they_control_and_entries_have_steps_of_their_own(monkeypatch):
    monkeypatch.setattr(topology.importlib.util, "find_spec", lambda name: None)
    config = tiny.comparison(1000)
    config.entries.masked_diffusion.lr_of = "autoregressive"
    config.entries.autoregressive.update(lr=0.02, steps=777)
    config.equal = "flops"
    found = settings.parse(config)
    text = estimate.text(found, execution.choose(found), "v5e:1x1", 0.5)
    first, second = (line for line in text.splitlines() if line.startswith("python"))
    assert "--config.optimizer.lr=0.02" in first and "steps=1000" in first
    assert "--config.optimizer.lr=0.02" in second and "steps=777" in second
    assert "equal flops are measured first" in text


def test_the_commands_train_the_runs(monkeypatch):
    monkeypatch.setattr(topology.importlib.util, "find_spec", lambda name: None)
    commands = [shlex.split(line) for line in _text().splitlines() if line.startswith("python")]
    assert len(commands) == 4
    (given,) = [words for words in commands if "--workdir=DIR/runs/autoregressive/seed1" in words]
    assert {"--config.optimizer.lr=0.02", "--config.seed=1"} <= set(given)
    config = parse(command.load(given[3].removeprefix("--config=")))
    assert (config.objective.name, config.duration) == ("autoregressive", "1000 steps")
