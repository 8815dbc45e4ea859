import dataclasses
import json
import weakref

import jax
import numpy as np
import pytest
from etils import epath

from mdc_jax.config import ConfigError, sections
from mdc_jax.evaluators import attentive, build, gradient_probes, linear_probe, metrics, probe_sets, scaling
from mdc_jax.evaluators.base import Interrupted
from mdc_jax.exchange import trees
from mdc_jax.report import tables
from mdc_jax.training import checkpoint
from tests.evaluators.fakes import SIZE, FakeObjective, FakeSource, make_subject

SECTION = sections.LinearProbe(
    train_examples=160, validation_examples=80, test_examples=120, batch_size=40, raw_size=4, untrained_seeds=2
)
SOURCES = {f"fake:{split}": FakeSource(160, seed=seed) for seed, split in enumerate(("train", "validation", "test"))}


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    """The metrics and the lines of `probe.csv`, by (family, row, features, metric)."""
    out = epath.Path(tmp_path_factory.mktemp("probe"))
    with pytest.MonkeyPatch.context() as patch:
        for module in ("base", "linear_probe", "probe_features", "probe_files"):
            patch.setattr(f"mdc_jax.evaluators.{module}.open_source", SOURCES.__getitem__)
        values = dict(build(SECTION).run(make_subject(out)))
    lines = tables.read_csv(out / "probe.csv")
    keys = ("family", "row", "features", "metric")
    predictions = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert {line["probe"] for line in predictions} == {"logistic/pooled", "logistic/flattened"}
    _assert_agree(predictions, values)
    return values, {tuple(line[key] for key in keys): line for line in lines}, (out / "probe.md").read_text()


def _assert_agree(predictions, values):
    """The lines of every example have what the metrics are made of, and examples know which they are."""
    for family in ("noise", "both"):
        own = [line for line in predictions if line["family"] == family]
        own = [line for line in own if line["probe"].endswith("flattened" if family == "both" else "pooled")]
        assert np.mean([line["right"] for line in own]) == pytest.approx(values[family])
    own = [line for line in predictions if (line["family"], line["probe"]) == ("bits", "logistic/pooled")]
    score, label = (np.array([line[key] for line in own]) for key in ("score", "label"))
    assert metrics.macro_auc(score, label, np.ones((len(own), 1), np.float32))[0] == pytest.approx(values["bits"])
    assert all((label[i] == SOURCES["fake:test"].bits[line["id"]]).all() for i, line in enumerate(own))


def test_planted_labels_are_found_and_random_ones_are_not(probed):
    values, lines, _ = probed
    assert values["bits"] > 0.7  # a mean over tokens cannot tell two bits apart, but how many there are
    assert values["both"] == 1.0  # flattened tokens can
    assert 0.3 < values["noise"] < 0.7
    assert float(lines["bits", "raw pixels", "pixels", "auc"]["value"]) == 1.0
    assert float(lines["bits", "chance", "", "auc"]["value"]) == 0.5


def test_every_family_has_every_row_and_bound_ones_both_features(probed):
    values, lines, text = probed
    assert set(values) == {"bits", "noise", "both"}  # "constant" cannot be probed
    for family, metric in (("bits", "auc"), ("noise", "accuracy"), ("both", "accuracy")):
        rows = {(row, features) for name, row, features, m in lines if (name, m) == (family, metric)}
        pooled = {
            ("chance", ""),
            ("raw pixels", "pixels"),
            ("untrained encoder", "pooled"),
            ("trained encoder", "pooled"),
        }
        flattened = {("untrained encoder", "flattened"), ("trained encoder", "flattened")}
        assert rows == (pooled | flattened if family == "both" else pooled)
    assert len(lines["both", "untrained encoder", "flattened", "accuracy"]["l2"].split()) == 2  # one per initialisation
    assert text.index("bits (auc)") < text.index("both (accuracy)")


def test_the_metrics_are_those_of_the_table(probed):
    values, lines, _ = probed
    for family, features, metric in (("bits", "pooled", "auc"), ("both", "flattened", "accuracy")):
        line = lines[family, "trained encoder", features, metric]
        assert float(line["value"]) == pytest.approx(values[family], abs=1e-5)
        assert float(line["low"]) <= float(line["value"]) <= float(line["high"])
        assert [int(line[split]) for split in ("train", "validation", "test", "step")] == [159, 79, 119, 7]


def test_without_baselines_only_the_trained_encoder_is_probed(tmp_path, use_source):
    use_source(SOURCES)
    section = dataclasses.replace(SECTION, baselines=False, families=("bits",))
    assert list(dict(build(section).run(make_subject(tmp_path)))) == ["bits"]
    assert {line["row"] for line in tables.read_csv(epath.Path(tmp_path) / "probe.csv")} == {"trained encoder"}


def test_without_untrained_encoders_there_is_no_row_of_them(tmp_path, use_source):
    use_source(FakeSource(160))
    list(build(dataclasses.replace(SECTION, untrained_seeds=0)).run(make_subject(tmp_path)))
    rows = {line["row"] for line in tables.read_csv(epath.Path(tmp_path / "probe.csv"))}
    assert rows == {"chance", "raw pixels", "trained encoder"}


def test_several_probes_layers_and_another_run_are_rows_beside_what_they_are_of(tmp_path, use_source, monkeypatch):
    use_source(SOURCES)
    other = make_subject(tmp_path, FakeObjective())
    loaded = checkpoint.Loaded(other.config, other.objective, other.params, other.tokenizer, other.mesh, 9, {})
    monkeypatch.setattr(checkpoint, "load", lambda workdir: loaded)
    monkeypatch.setattr(attentive, "LEAST_STEPS", 2)
    section = dataclasses.replace(
        SECTION,
        families=("noise", "both"),
        probes=("knn", "ridge", "attentive"),
        layers=True,
        metric="mean_per_class",
        compared=("permuted captions=elsewhere",),
        untrained_seeds=1,
    )
    values = dict(build(section).run(make_subject(tmp_path)))
    assert set(values) == {f"{family}{kind}" for family in ("noise", "both") for kind in ("", "/ridge", "/attentive")}
    lines = tables.read_csv(epath.Path(tmp_path) / "probe.csv")
    assert {line["metric"] for line in lines} == {"mean_per_class"}
    of = {(line["features"], line["probe"]) for line in lines if line["row"] == "trained encoder"}
    vectors = {(kind, probe) for kind in ("pooled", "flattened", "best layer") for probe in ("knn", "ridge")}
    assert of == vectors | {("tokens", "attentive")}
    # The other run has the same parameters, so it must score the same.
    scores = {}
    for line in lines:
        scores.setdefault(tuple(line[key] for key in ("family", "features", "probe")), {})[line["row"]] = line["value"]
    assert all(
        row["permuted captions"] == row["trained encoder"] for row in scores.values() if "permuted captions" in row
    )

    sweep = tables.read_csv(epath.Path(tmp_path) / "probe_sweep.csv")
    chosen = [line for line in sweep if line["chosen"] == "1"]
    assert len({line["setting"] for line in sweep}) > len({line["probe"] for line in sweep})
    assert len(chosen) == len([line for line in lines if line["probe"]])
    about = json.loads((tmp_path / "probe.json").read_text())
    assert about["families"]["both"]["names"] == ["neither", "first", "second", "both"]
    assert about["splits"]["test"] == {"source": "fake:test", "hash": "fake"}
    assert about["preprocessing"]["size"] == SIZE
    assert about["compared"]["permuted captions"]["step"] == 9
    # It has the same parameters, which are not those of another key.
    kernel = jax.device_get(FakeObjective().init(jax.random.key(1))["encoder"]["patch"]["kernel"])
    assert about["weights"] == about["compared"]["permuted captions"]["weights"]
    assert about["weights"] != trees.sha256({"patch/kernel": kernel})
    text = (tmp_path / "probe.md").read_text()
    assert 'no row "supervised ceiling"' in text
    assert 'no row "permuted captions"' not in text


def test_scaled_features_of_one_layer_exist_at_a_time(tmp_path, use_source, monkeypatch):
    use_source(SOURCES)
    made = []

    def scale(features, *args, **kwargs):
        assert not any(array() is not None for array in made)
        scaled = scaling.scale(features, *args, **kwargs)
        made.extend(weakref.ref(x) for x in scaled.values())
        return scaled

    monkeypatch.setattr(linear_probe, "scale", scale)
    # Neighbours are looked up in the training features, which a probe that was kept would keep.
    section = dataclasses.replace(SECTION, families=("noise", "bits"), probes=("knn",), layers=True, baselines=False)
    dict(build(section).run(make_subject(tmp_path)))
    assert len(made) == 3 * (1 + 2)  # splits; pooled features and two layers


@pytest.mark.parametrize("probe, fitted_on", [("ridge", "train"), ("adamw", "train+validation")])
def test_on_a_set_that_papers_use_a_probe_sees_what_it_sees_there(tmp_path, use_source, monkeypatch, probe, fitted_on):
    use_source(SOURCES)
    monkeypatch.setattr(gradient_probes, "LEAST_STEPS", 2)
    monkeypatch.setattr(probe_sets, "filled", lambda section: section)
    section = dataclasses.replace(SECTION, dataset="cifar10", families=("noise",), probes=(probe,), baselines=False)
    dict(build(section).run(make_subject(tmp_path)))
    (line,) = tables.read_csv(epath.Path(tmp_path) / "probe.csv")
    assert line["fitted_on"] == fitted_on
    again = "fitted again" in (tmp_path / "probe.md").read_text()
    assert again == (fitted_on == "train+validation")


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"probes": ("logistik",)}, 'no probe "logistik"; did you mean "logistic"'),
        ({"probes": ()}, "choose from logistic"),
        ({"shots": 5, "refit": True}, "set refit=False"),
        ({"compared": ("runs/permuted",)}, "write NAME=WORKDIR"),
        ({"compared": ("permuted captions=there/is/none",)}, "holds no checkpoint"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_training(changed, words):
    with pytest.raises(ConfigError, match=words):
        build(dataclasses.replace(SECTION, **changed)).check(sections.Config())


def test_an_unknown_family_is_named(tmp_path, use_source):
    use_source(SOURCES)
    with pytest.raises(ConfigError, match='no label family "smell"; it has bits, noise, both, constant'):
        list(build(dataclasses.replace(SECTION, families=("smell",))).run(make_subject(tmp_path)))


def test_splits_whose_class_numbers_mean_other_names_are_refused(tmp_path):
    """Number 1 is "bees" in one folder and "cats" in another."""
    for split, names in (("train", "ants bees cats"), ("validation", "ants bees cats"), ("test", "ants cats")):
        for name in names.split():
            path = tmp_path / split / name / "0.png"
            path.parent.mkdir(parents=True)
            path.touch()
    section = sections.LinearProbe(**{split: f"folder:{tmp_path}/{split}" for split in ("train", "validation", "test")})
    with pytest.raises(ConfigError, match=r'"folder" is class of ants, bees, cats in .*train, .* ants, cats in .*test'):
        build(section).check(sections.Config())
    (tmp_path / "test" / "bees").mkdir()
    (tmp_path / "test" / "bees" / "0.png").touch()
    build(section).check(sections.Config())


def test_a_stopped_probe_writes_nothing(tmp_path, use_source):
    use_source(SOURCES)
    polls = iter(range(100))
    with pytest.raises(Interrupted):
        list(build(SECTION).run(make_subject(tmp_path, should_stop=lambda: next(polls) == 12)))
    assert not list(epath.Path(tmp_path).iterdir())
