"""The loop from inside: one compilation, a known loss curve, interrupted evaluations, a loss that explodes."""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import re

import jax
import numpy as np
import pytest
import tokenizers
from etils import epath

from mdc_jax import command, objectives
from mdc_jax.config import ConfigError, parse, sections
from mdc_jax.data.captions import read_captions
from mdc_jax.data.sources import open_source, scenes
from mdc_jax.data.sources.base import BadRecord, Record
from mdc_jax.report import metrics_file
from mdc_jax.report.metrics_file import read
from mdc_jax.training import checkpoint, loop
from mdc_jax.training import state as train_state
from mdc_jax.training.train_log import NonFiniteError

ROOT = pathlib.Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("one_device")
GOLDEN = pathlib.Path(__file__).parent / "golden_losses.json"


def tiny(**changes: object) -> sections.Config:
    config = parse(command.load(str(ROOT / "tests" / "end_to_end" / "tiny.py")))
    # One device of the eight: a tiny model on many is slow.
    config = dataclasses.replace(config, duration="20 steps", evaluators={}, mesh=sections.Mesh(data=1))
    return dataclasses.replace(config, **changes)


def losses(workdir: pathlib.Path) -> list[float]:
    return [line["train/loss"] for line in read(epath.Path(workdir)) if "train/loss" in line]


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The batches that the step was traced for."""
    traces = []
    make_step = train_state.make_step

    def counting(*args: object, **kwargs: object) -> object:
        step = make_step(*args, **kwargs)

        def traced(state: object, batch: object) -> object:
            traces.append(batch)
            return step(state, batch)

        return traced

    monkeypatch.setattr(train_state, "make_step", counting)
    return traces


def test_the_step_is_traced_once_and_the_losses_are_those_of_before(
    tmp_path: pathlib.Path, traces: list[object]
) -> None:
    loop.train(tiny(), tmp_path)
    assert len(traces) == 1
    # Another random stream or loss shows at once; rounding of other hardware does not.
    np.testing.assert_allclose(losses(tmp_path), json.loads(GOLDEN.read_text()), rtol=2e-3)


def test_words_that_are_masked_whole_are_those_of_the_tokenizer(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, build = [], objectives.build
    monkeypatch.setattr(objectives, "build", lambda *a, **k: given.append(k["word_starts"]) or build(*a, **k))
    loop.train(tiny(duration="1 steps", objective=sections.MaskedDiffusion(mask_words=True)), tmp_path)
    expected = checkpoint.load(tmp_path).tokenizer.word_starts()
    assert not expected.all()  # some words have several pieces
    assert len(given) == 2  # to train, and to load
    for starts in given:
        np.testing.assert_array_equal(starts(), expected)


@pytest.mark.slow
def test_length_buckets_cost_a_trace_each_and_a_resume_keeps_their_order(
    tmp_path: pathlib.Path, traces: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = dataclasses.replace(tiny().data, buckets=(12, 18, 24))
    loop.train(tiny(data=data), tmp_path)
    assert sorted(batch["text"].shape[-1] for batch in traces) == [12, 18, 24]
    logged = read(epath.Path(tmp_path))
    assert {line["train/text_tokens"] for line in logged} == {12, 18, 24}
    # A step that compiles tells no speed.
    assert sum("train/images_per_second" not in line for line in logged) == 3

    runs = []
    batches = loop.TrainBatches
    monkeypatch.setattr(loop, "TrainBatches", lambda *args, **kwargs: runs.append(kwargs) or batches(*args, **kwargs))
    loop.train(tiny(data=dataclasses.replace(data, batch_size=16), duration="21 steps"), tmp_path)
    assert [(run["position"], run["bucket_run"]) for run in runs] == [(160, 8)]
    with pytest.raises(ConfigError, match=r"data\.buckets"):
        loop.train(tiny(data=dataclasses.replace(data, buckets=()), duration="22 steps"), tmp_path)


@pytest.mark.slow
def test_an_explosion_stops_the_run_and_reaches_no_checkpoint(tmp_path: pathlib.Path) -> None:
    config = tiny(checkpoint=sections.Checkpoint(every="5 steps"))
    loop.train(dataclasses.replace(config, duration="5 steps"), tmp_path)
    explosive = dataclasses.replace(config, optimizer=sections.Optimizer(lr=1e30, warmup="0", clip_norm=1e30))
    with pytest.raises(NonFiniteError, match=r"optimizer\.lr"):
        loop.train(explosive, tmp_path)
    assert checkpoint.steps(tmp_path) == [5]
    # The loss of the step is still finite, what it makes of the parameters is not.
    every_step = dataclasses.replace(explosive, checkpoint=sections.Checkpoint(every="1 steps"))
    with pytest.raises(NonFiniteError, match=r"step 6: loss [0-9.]+, .*new parameters (inf|nan)"):
        loop.train(every_step, tmp_path)
    assert checkpoint.steps(tmp_path) == [5]
    loop.train(dataclasses.replace(config, duration="6 steps"), tmp_path)
    assert checkpoint.steps(tmp_path)[-1] == 6


def test_a_start_that_was_killed_before_its_first_checkpoint_is_made_anew(tmp_path: pathlib.Path) -> None:
    (tmp_path / checkpoint.TOKENIZER).write_bytes(b"of a start with another config")
    loop.train(tiny(duration="1 steps"), tmp_path)
    assert checkpoint.load(tmp_path).step == 1


def test_a_damaged_results_file_is_made_anew(tmp_path: pathlib.Path) -> None:
    expected = loop.train(tiny(duration="2 steps"), tmp_path)
    (tmp_path / metrics_file.RESULTS_FILE).write_text('{"step": 2')
    assert loop.train(tiny(duration="2 steps"), tmp_path) == pytest.approx(expected)


def test_an_evaluator_that_could_not_run_stops_the_start(tmp_path: pathlib.Path) -> None:
    probe = sections.LinearProbe(families=("shap",))
    with pytest.raises(ConfigError, match='no label family "shap"'):
        loop.train(tiny(evaluators={"probe": probe}), tmp_path)
    with pytest.raises(ConfigError, match="cannot be made"):
        loop.train(tiny(), "/proc/nowhere/run")


def test_a_duration_that_ends_before_the_checkpoint_is_refused(tmp_path: pathlib.Path) -> None:
    loop.train(tiny(duration="2 steps"), tmp_path)
    (tmp_path / metrics_file.RESULTS_FILE).unlink()
    with pytest.raises(ConfigError, match=r"duration=1 steps.*at step 2 already"):
        loop.train(tiny(duration="1 steps"), tmp_path)


def test_another_run_in_the_same_workdir_is_refused(tmp_path: pathlib.Path) -> None:
    loop.train(tiny(duration="1 steps"), tmp_path)
    with pytest.raises(ConfigError, match=r"data\.train"):
        loop.train(tiny(data=dataclasses.replace(tiny().data, train="fake:train,size=32")), tmp_path)


def test_a_tokenizer_json_is_kept_and_another_vocabulary_is_refused(tmp_path: pathlib.Path) -> None:
    files, hashes = [], []
    for name, words in {"first": ["a", "red", "blue"], "second": ["blue", "red", "a"]}.items():
        vocabulary = {word: id_ for id_, word in enumerate(["[UNK]", *words])}
        json_file = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
        files.append(tmp_path / f"{name}.json")
        json_file.save(str(files[-1]))
        hashes.append(hashlib.sha256(files[-1].read_bytes()).hexdigest())

    workdir = epath.Path(tmp_path)
    made = loop._share_tokenizer(tiny(tokenizer=sections.Tokenizer(model=str(files[0]))), None, workdir)
    assert checkpoint.load_tokenizer(workdir, hashes[0]).model_bytes == made.model_bytes == files[0].read_bytes()
    assert made.vocab_size == 6

    loop._check_tokenizer(str(files[0]), made)
    loop._check_tokenizer(str(tmp_path / "gone.json"), made)
    with pytest.raises(ConfigError, match="token 3: 'a' → 'blue'\n  token 5: 'blue' → 'a'\n"):
        loop._check_tokenizer(str(files[1]), made)
    (workdir / checkpoint.TOKENIZER).write_bytes(files[1].read_bytes())
    with pytest.raises(ConfigError, match=f"{hashes[1]}.*{hashes[0]}"):
        checkpoint.load_tokenizer(workdir, hashes[0])


@pytest.mark.slow
def test_a_stop_during_evaluation_saves_and_the_evaluation_is_made_up_for(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluators = {"held_out": sections.HeldOutLoss(every="4 steps", examples=32, batch_size=8)}
    config = tiny(duration="8 steps", evaluators=evaluators)
    run = loop.evaluators.run

    def stopped(chosen: object, subject: loop.Subject) -> object:
        raise loop.Interrupted

    monkeypatch.setattr(loop.evaluators, "run", stopped)
    assert loop.train(config, tmp_path) is None
    assert checkpoint.steps(tmp_path) == [4]
    monkeypatch.setattr(loop.evaluators, "run", run)
    results = loop.train(config, tmp_path)
    assert "held_out/loss" in results
    lines = [line["step"] for line in read(epath.Path(tmp_path)) if "held_out/loss" in line]
    assert lines == [4, 8] and len(losses(tmp_path)) == 8


@pytest.mark.slow
def test_a_duration_in_examples_survives_a_change_of_batch_size(tmp_path: pathlib.Path) -> None:
    config = tiny(duration="64 examples")
    loop.train(dataclasses.replace(config, duration="32 examples"), tmp_path)  # 4 steps of 8
    wider = dataclasses.replace(config, data=dataclasses.replace(config.data, batch_size=16))
    loop.train(wider, tmp_path)  # 2 of 16
    assert checkpoint.steps(tmp_path)[-1] == 6
    assert checkpoint.load(tmp_path).meta["position"] == 64


def test_a_rate_that_goes_otherwise_than_it_was_set_is_told(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny(duration="3 steps", optimizer=sections.Optimizer(lr=0.5, warmup="3 steps"))
    loop.train(config, tmp_path)
    assert (
        "optimizer.warmup='3 steps' is not shorter than the run of 3 steps: it is cut to 2" in capsys.readouterr().out
    )
    loop.train(dataclasses.replace(config, duration="6 steps"), tmp_path)
    said = capsys.readouterr().out
    assert "duration: 3 steps → 6 steps; the learning rate goes on at 0.5, as in a run of 6 steps" in said
    assert "is cut" not in said


def test_a_seed_that_is_none_of_its_own_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ConfigError, match="seed=4294967296: JAX's keys tell seeds apart up to 4,294,967,295"):
        loop.train(tiny(seed=2**32), tmp_path)


def test_records_that_cannot_be_used_are_in_the_log(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = scenes.ScenesSource.__getitem__

    def every_other(source: scenes.ScenesSource, index: int) -> Record:
        if index % 2:
            raise BadRecord("no pixels")
        return original(source, index)

    monkeypatch.setattr(scenes.ScenesSource, "__getitem__", every_other)
    config = tiny(duration="20 steps")
    loop.train(dataclasses.replace(config, data=dataclasses.replace(config.data, max_bad_share=1.0)), tmp_path)
    found = [line["train/masked_rows"] for line in read(epath.Path(tmp_path)) if "train/masked_rows" in line]
    assert 0.3 < np.mean(found) < 0.7


def test_one_batch_repeated_is_learned_by_heart(tmp_path: pathlib.Path) -> None:
    data = dataclasses.replace(tiny().data, repeat_batch=True)
    loop.train(tiny(duration="150 steps", data=data, optimizer=sections.Optimizer(lr=3e-3, warmup="10")), tmp_path)
    curve = losses(tmp_path)
    assert np.mean(curve[-10:]) < 0.6 * curve[0]


def test_the_averaged_parameters_are_evaluated(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(loop.evaluators, "run", lambda chosen, subject: seen.append(subject.params) or iter(()))
    loop.train(tiny(duration="3 steps", optimizer=dataclasses.replace(tiny().optimizer, ema=0.5)), tmp_path)
    averaged = checkpoint.load(tmp_path).params  # of a run that averages, these are what is loaded
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(seen[-1]), jax.device_get(averaged))
    with contextlib.closing(checkpoint.Checkpointer(epath.Path(tmp_path))) as stored:
        last = stored.restore_params(3, "params", averaged)
    assert (last["decoder"]["head"]["kernel"] != averaged["decoder"]["head"]["kernel"]).any()


def test_captions_that_lose_their_ends_are_said(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    warning = r"warning: (\d+)% of the training captions are longer than data\.max_tokens=12, and lose their ends"
    config = tiny(duration="1 steps", data=dataclasses.replace(tiny().data, max_tokens=12))
    loop.train(config, tmp_path)
    said = re.search(warning, capsys.readouterr().out)
    lengths = [len(caption.split()) + 1 for caption in read_captions(open_source(config.data.train), 1_000)]
    # Each word is at least a token.
    assert 100 > int(said[1]) >= int(100 * np.mean(np.asarray(lengths) > 12))
    loop.train(dataclasses.replace(config, duration="2 steps"), tmp_path)
    whole = tiny(duration="1 steps", data=dataclasses.replace(tiny().data, max_tokens=96))
    loop.train(whole, tmp_path / "whole")
    assert "lose their ends" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_window_of_steps_is_traced(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    loop.train(tiny(duration="4 steps", log=sections.Log(every="1 steps", tensorboard=False, profile="2:3")), tmp_path)
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
    assert f"trace of steps (log.profile): {tmp_path / 'profile'}" in capsys.readouterr().out
