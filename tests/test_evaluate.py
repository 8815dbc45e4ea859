import dataclasses
import json
import math
import pathlib
import types

import PIL.Image
import pytest
from etils import epath

from mdc_jax import evaluate, evaluators
from mdc_jax.config import ConfigError, sections
from mdc_jax.evaluate import choose, moved, override, steps_of
from mdc_jax.training import checkpoint
from tests import commands
from tests.evaluators.fakes import make_subject

CHECKPOINT = pathlib.Path(__file__).parent / "testdata" / "checkpoint_format_1"


def test_evaluators_are_those_of_the_config_or_a_type_at_its_defaults():
    configured = {"probe": sections.LinearProbe(test_examples=7)}
    assert choose(configured, []) == configured
    assert choose(configured, ["captioning"]) == {"captioning": sections.Captioning()}
    with pytest.raises(ConfigError, match=r"--evaluator=prob: choose from .*probe"):
        choose(configured, ["prob"])
    with pytest.raises(ConfigError, match="has no evaluator"):
        choose({}, [])


def test_a_decoder_without_images_is_found_where_a_merged_comparison_has_it(tmp_path):
    run, blind = (epath.Path(tmp_path) / "all" / "runs" / entry / "seed0" for entry in ("mdc", "blind"))
    section = sections.Perplexity(blind_workdir=str(tmp_path / "part1" / "runs" / "blind" / "seed0"))
    assert moved(section, run) == section  # not there either: it is named in the error
    blind.mkdir(parents=True)
    assert moved(section, run).blind_workdir == str(blind)
    epath.Path(section.blind_workdir).mkdir(parents=True)
    assert moved(section, run) == section
    for without in (sections.Perplexity(), sections.Captioning()):
        assert moved(without, run) == without


def test_settings_of_evaluators_are_changed_and_checked():
    chosen = {"captions": sections.Captioning(), "foils": sections.Compositionality()}
    texts = ["captions.decoding.order=random", "captions.examples=7", "foils.scorers=('elbo',)"]
    config = sections.Config(data=sections.Data(train="scenes:train"), checkpoint=sections.Checkpoint(keep_best=0))
    changed = override(config, chosen, texts)
    assert changed["captions"] == sections.Captioning(examples=7, decoding=sections.Decoding(order="random"))
    assert changed["foils"] == sections.Compositionality(scorers=("elbo",))
    for text, message in {
        "captions.exampels=7": 'did you mean "examples"',
        "captions.examples=many": "expected",
        "captions.examples.many=7": "examples is no section",
        "captions": "write NAME.KEY=VALUE",
        "probe.examples=7": "no such evaluator is run; these are: captions, foils",
    }.items():
        with pytest.raises(ConfigError, match=message):
            override(config, chosen, [text])


def test_what_an_earlier_evaluation_wrote_is_not_shown_again(tmp_path, monkeypatch):
    class Writes:
        def __init__(self, name):
            self._name = name

        def run(self, subject):
            (subject.out / f"{self._name}.md").write_text(f"table {self._name}")
            yield "metric", 1.0

    monkeypatch.setattr(evaluators, "build", Writes)
    subject = make_subject(tmp_path)
    for name in ("first", "second"):
        values = dict(evaluators.run({"mine": name}, subject))
        assert f"table {name}" in evaluators.summary(values, subject.out, ["mine"])
    assert "table first" not in evaluators.summary(values, subject.out, ["mine"])


def test_one_step_or_all_that_are_kept_are_evaluated(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checkpoint, "steps", lambda workdir: [10, 30])
    workdir = epath.Path("run")
    assert (steps_of(workdir, ""), steps_of(workdir, "30"), steps_of(workdir, "all")) == ([None], [30], [10, 30])
    with pytest.raises(ConfigError, match="--step=last: give a number"):
        steps_of(workdir, "last")


def test_what_is_found_lies_beside_its_tables_also_where_a_later_evaluator_fails(tmp_path, monkeypatch, capsys):
    subject = make_subject(tmp_path)
    probes = {name: sections.LinearProbe() for name in ("probe", "other")}
    loaded = types.SimpleNamespace(config=dataclasses.replace(subject.config, evaluators=probes), step=30)
    values = {
        "evaluator": ["probe", "other"],
        "set": [],
        "out": None,
        "step": "30",
        "workdir": str(tmp_path),
        "max_bad_share": None,
    }
    monkeypatch.setattr(evaluate, "flags", types.SimpleNamespace(FLAGS=types.SimpleNamespace(**values)))
    monkeypatch.setattr(evaluate.loading, "load", lambda workdir, step: loaded)
    monkeypatch.setattr(evaluate.evaluators, "check", lambda config: None)
    monkeypatch.setattr(evaluate.Subject, "of", lambda loaded, out: dataclasses.replace(subject, out=out))

    def run(chosen, subject):
        if "other" in chosen:
            raise OSError("no such image")
        (subject.out / "probe").mkdir(parents=True)
        yield from (("probe/shape", 0.9), ("probe/shape/attentive", math.nan))

    monkeypatch.setattr(evaluate.evaluators, "run", run)
    with pytest.raises(OSError, match="no such image"):
        evaluate.evaluate(epath.Path(tmp_path), 30)
    assert "probe/shape  " in capsys.readouterr().out
    found = json.loads((tmp_path / "evaluations" / "30" / "probe" / evaluate.VALUES_FILE).read_text())
    assert found == {"shape": 0.9, "shape/attentive": None}


def test_a_missing_run_is_an_error_without_a_traceback(tmp_path: pathlib.Path):
    done = commands.run("mdc_jax.evaluate", f"--workdir={tmp_path / 'nothing'}")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and "--workdir" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_cannot_be_written_is_said_before_the_work(tmp_path: pathlib.Path):
    (tmp_path / "file").touch()
    arguments = [f"--workdir={CHECKPOINT}", f"--out={tmp_path}/file/in", "--evaluator=perplexity"]
    refused = commands.run("mdc_jax.evaluate", *arguments, "--set=perplexity.split=scenes:test")
    assert refused.returncode and "Traceback" not in refused.stderr
    assert f"--out={tmp_path}/file/in" in refused.stderr and "no file can be written there" in refused.stderr


def test_bad_records_are_an_error_without_a_traceback_that_says_how_to_allow_them(tmp_path: pathlib.Path):
    for split, count in (("train", 4), ("test", 1)):
        for name in range(10):
            folder = tmp_path / split / f"class{name}"
            folder.mkdir(parents=True)
            for index in range(count):
                PIL.Image.new("RGB", (8, 8), (20 * name, 40 * index, 0)).save(folder / f"{index}.png")
    (tmp_path / "test" / "class3" / "0.png").write_bytes(b"junk")
    settings = {"dataset": f"cifar10:{tmp_path}", "probes": "('ridge',)", "baselines": False}
    settings["compared"] = f"('again={CHECKPOINT}',)"  # it reads the same records
    arguments = ["--evaluator=linear_probe", *(f"--set=linear_probe.{key}={settings[key]}" for key in settings)]
    arguments += [f"--workdir={CHECKPOINT}", f"--out={tmp_path / 'out'}"]
    done = commands.run("mdc_jax.evaluate", *arguments)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "1 of 10 examples cannot be used (1 x unknown format)" in done.stderr
    assert "--max_bad_share of mdc_jax.evaluate" in done.stderr
    done = commands.run("mdc_jax.evaluate", *arguments, "--max_bad_share=0.1")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "linear_probe" / evaluate.VALUES_FILE).exists()
