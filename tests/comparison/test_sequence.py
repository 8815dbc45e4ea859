"""Runs one after the other: none is taken for another one, and one that diverges is noted once."""

import dataclasses
import json

import pytest
from etils import epath

from mdc_jax import lock
from mdc_jax.comparison import entries, provenance, sequence, settings
from mdc_jax.config import ConfigError, dumps, evaluator, sections
from mdc_jax.data import tokenizer
from mdc_jax.report import metrics_file
from mdc_jax.training import checkpoint, loop
from mdc_jax.training.train_log import NonFiniteError
from tests.comparison import tiny


def _config(steps=100, lr=0.01, **changed):
    comparison = tiny.comparison(steps)
    with comparison.unlocked():
        comparison.evaluators.perplexity = evaluator("perplexity")
        comparison.update(changed)
    found = settings.parse(comparison)
    return entries.config_of(found, "masked_diffusion", seed=0, steps=steps, lr=lr, evaluators=found.evaluators)


def _evaluators(**changed):
    """Those of a comparison, each with other settings where it has them."""
    found = tiny.comparison(100).evaluators.to_dict() | {"perplexity": evaluator("perplexity")}
    return {name: {**section, **{k: v for k, v in changed.items() if k in section}} for name, section in found.items()}


def _begin(workdir, config, done=None):
    """A run as it is left behind: finished at a step, or under way."""
    provenance.record(workdir, config)
    (workdir / loop.CONFIG_FILE).write_text(dumps(config))
    if done:
        (workdir / metrics_file.RESULTS_FILE).write_text(json.dumps({"step": done, "results": {}}))


def test_a_run_that_is_asked_for_more_steps_is_not_finished(tmp_path):
    workdir = epath.Path(tmp_path)
    assert not sequence.is_finished(workdir, _config())
    _begin(workdir, _config(), done=100)
    assert sequence.is_finished(workdir, _config())
    longer = _config(200, settings=("optimizer.warmup=40 steps",), evaluators=_evaluators(every="50 steps"))
    assert not sequence.is_finished(workdir, longer)
    with pytest.raises(ConfigError, match="is at step 100 already"):
        sequence.is_finished(workdir, _config(50))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"settings": ("data.train=scenes:train,size=32,prior=.8",)}, "data.train: .*prior=.8"),
        ({"settings": ("data.batch_size=16",)}, "data.batch_size: 8 → 16"),
        ({"settings": ("optimizer.weight_decay=0.5",)}, "optimizer.weight_decay"),
        ({"settings": ("objective.mask_eos=False",)}, "objective.mask_eos: True → False"),
        ({"settings": ("optimizer.warmup=1 steps",)}, "optimizer.warmup: '20 steps' → '1 steps'"),
        ({"settings": ("tokenizer.train_captions=3",)}, "tokenizer.train_captions: 500 → 3"),
        ({"settings": ("tokenizer.model=/nowhere/t.model",)}, "tokenizer.model: '' → '/nowhere/t.model'"),
        ({"evaluators": _evaluators(examples=7)}, "evaluators.held_out.examples: 16 → 7"),
        ({"evaluators": _evaluators(baselines=True, untrained_seeds=1)}, "evaluators.probe.untrained_seeds: 3 → 1"),
        ({"lr": 0.02}, "optimizer.lr: 0.01 → 0.02\n.*--config.entries.ENTRY.lr=0.01 keeps the learning rate"),
    ],
)
@pytest.mark.parametrize("done", [100, 50, None])
def test_another_run_is_refused_finished_or_not(tmp_path, changed, words, done):
    workdir = epath.Path(tmp_path)
    _begin(workdir, _config(), done)
    with pytest.raises(ConfigError, match=words):
        sequence.is_finished(workdir, _config(**changed))


def test_a_run_with_an_evaluator_that_is_not_asked_for_any_more_is_another(tmp_path):
    workdir, config = epath.Path(tmp_path), _config()
    _begin(workdir, config, done=100)
    left = {name: section for name, section in config.evaluators.items() if name != "probe"}
    with pytest.raises(ConfigError, match=r"holds another run:(.|\n)*evaluators\.probe"):
        sequence.is_finished(workdir, dataclasses.replace(config, evaluators=left))


def test_what_lies_elsewhere_is_the_same_run(tmp_path):
    workdir = epath.Path(tmp_path)
    _begin(workdir, _config(evaluators=_evaluators(blind_workdir="part1/blind")), done=100)
    # The same scenes by another spec, and a decoder without images in another place.
    same = ("data.train=scenes:train,size=32,prior=0",)
    assert sequence.is_finished(workdir, _config(settings=same, evaluators=_evaluators(blind_workdir="all/blind")))
    # No row of a probe without baselines is of untrained encoders.
    assert sequence.is_finished(workdir, _config(settings=same, evaluators=_evaluators(untrained_seeds=1)))
    # So may the file of its tokenizer.
    for folder, words in (("a", 60), ("b", 60), ("c", 61)):
        (tmp_path / folder).mkdir()
        captions = [f"word{index} word{index}" for index in range(words)]
        trained = tokenizer.train(captions, sections.Tokenizer(vocab_size=400))
        (tmp_path / folder / "t.model").write_bytes(trained.model_bytes)
    moved = [_config(settings=(f"tokenizer.model={tmp_path}/{folder}/t.model",)) for folder in "abc"]
    (workdir / "run").mkdir()
    _begin(workdir / "run", moved[0], done=100)
    (workdir / "run" / checkpoint.TOKENIZER).write_bytes((tmp_path / "a" / "t.model").read_bytes())
    assert sequence.is_finished(workdir / "run", moved[1])
    with pytest.raises(ConfigError, match=r"tokenizer\.model: "):
        sequence.is_finished(workdir / "run", moved[2])
    # Older starts did not write down their data.
    (workdir / provenance.FILE).unlink()
    assert sequence.is_finished(workdir, _config(settings=same))


def test_a_run_that_diverges_is_noted_and_not_tried_again(tmp_path, monkeypatch):
    tried = []

    def train(config, workdir):
        tried.append(workdir)
        (workdir / loop.CONFIG_FILE).write_text(dumps(config))
        raise NonFiniteError("step 3: loss nan")

    monkeypatch.setattr(loop, "train", train)
    workdir = epath.Path(tmp_path)
    for _ in range(2):
        with pytest.raises(NonFiniteError, match="step 3: loss nan"):
            sequence.train({workdir: _config()})
    assert tried == [workdir] and sequence.diverged(workdir) == "step 3: loss nan"
    with pytest.raises(ConfigError, match=r"optimizer\.lr"):
        sequence.train({workdir: _config(lr=0.02)})


def test_a_start_is_written_down_with_its_steps_and_data(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "train", lambda config, workdir: {})
    workdir = epath.Path(tmp_path)
    for steps in (100, 200):
        assert sequence.train({workdir: _config(steps)})
    starts = provenance.read(workdir)
    assert [start["steps"] for start in starts] == [100, 200]
    assert set(starts[0]["data"]) == {"train", "validation", "test"}


def test_a_run_that_another_process_is_at_work_on_is_not_started(tmp_path):
    """Its file of starts would say one more than there were."""
    workdir = epath.Path(tmp_path)
    with lock.hold(workdir), pytest.raises(ConfigError, match="another run is at work"):
        sequence.train({workdir: _config()})
    assert provenance.read(workdir) == []
