import dataclasses
import json
import types

import jax.numpy as jnp
import numpy as np
import pytest

from mdc_jax.config import ConfigError, sections
from mdc_jax.data.sources import open_source
from mdc_jax.data.sources.base import Family, Record
from mdc_jax.evaluators import build, class_names, zero_shot
from mdc_jax.objectives.base import Score
from mdc_jax.report import tables
from tests.evaluators import real
from tests.evaluators.fakes import BAD, FakeObjective, FakeSource, make_subject

COUNT = 40
SECTION = sections.ZeroShot(
    family="animal", examples=COUNT, batch_size=16, texts_at_once=3, blind_images=16, scorers=("seeing", "biased")
)


class Animals(FakeSource):
    """Records have no captions; every fifth has no label."""

    def __init__(self):
        super().__init__(COUNT)
        self.families = {"animal": Family("class", ("cat", "dog")), **self.families}

    def __getitem__(self, index):
        record = super().__getitem__(index)
        animal = np.int32(self.bits[index, 0] if index % 5 else -1)
        return Record(record.image, (), {**record.labels, "animal": animal})


class Namer(FakeObjective):
    """ "seeing" knows the animal; "biased" knows it too, but finds every text with a dog e^5 times likelier."""

    def encode(self, params, images):
        features = super().encode(params, images)
        return features | {"tokens": features["quarters"][:, :1], "pooled": features["quarters"][:, 0]}

    @property
    def scorers(self):
        def score(bias):
            def scorer(params, features, captions, key):
                dog = features["tokens"][:, 0, 0] > 100
                says = [(captions["text"] == token).any(-1).astype(jnp.float32) for token in (4, 5)]
                own = jnp.where(dog[:, None], says[1], says[0])
                # A template of more words counts for less, which the mean over templates must even out.
                value = own + bias * says[1] - captions["length"]
                return Score(value, jnp.zeros_like(value), "exact")

            return scorer

        return {"seeing": score(0.0), "biased": score(5.0)}


@pytest.fixture
def classes(tmp_path):
    path = tmp_path / "animals.json"
    path.write_text(json.dumps({"templates": ["a {}", "{}"], "classes": ["cat", "dog"]}))
    return str(path)


def test_a_prior_over_texts_hides_what_is_seen_until_it_is_taken_away(tmp_path, use_source, classes):
    source = Animals()
    use_source(source)
    out = tmp_path / "out"
    out.mkdir()
    subject = make_subject(out, Namer())
    values = dict(build(dataclasses.replace(SECTION, classes=classes)).run(subject))
    known = [record for record in range(COUNT) if record % 5 and record != BAD]
    dogs = np.mean([source.bits[record, 0] for record in known])
    assert values["seeing/accuracy"] == values["seeing/mean_per_class"] == 1.0
    assert values["biased/accuracy"] == pytest.approx(dogs)
    assert values["biased/mean_per_class"] == values["chance"] == 0.5

    rows = {
        (row["scorer"], row["exponent"], row["per"], row["metric"]): row
        for row in tables.read_csv(subject.out / "zero_shot.csv")
    }
    assert float(rows["biased", "1", "caption", "accuracy"]["value"]) == 1.0
    assert int(rows["biased", "1", "caption", "accuracy"]["examples"]) == len(known)
    per_class = {
        (row["scorer"], row["exponent"], row["per"], row["class"]): row
        for row in tables.read_csv(subject.out / "per_class.csv")
    }
    assert float(per_class["biased", "0", "caption", "cat"]["accuracy"]) == 0.0
    assert int(per_class["biased", "0", "caption", "dog"]["chosen"]) == len(known)
    lines = [json.loads(line) for line in (subject.out / "predictions.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == known
    assert all(line["predicted"][0]["class"] == line["truth"] and line["predicted"][0]["right"] for line in lines)
    assert "chance 0.5000" in (text := (subject.out / "zero_shot.md").read_text())
    assert "the mean over 16 training images (rough: take 64 or more)" in text


@pytest.mark.parametrize(
    ("spec", "family", "objective"),
    [("pictures:{}:test", "kind", "clip"), ("collage:{}:test,size=32,count=24", "kind", "siglip")],
)
def test_real_models_choose_the_class_whose_texts_are_nearest(tmp_path, pictures, spec, family, objective):
    """Of collages, which show several things, those count that show one kind."""
    templates, names = ("a {}", "some more {}"), real.KINDS
    path = tmp_path / "kinds.json"
    path.write_text(json.dumps({"templates": templates, "classes": names}))
    texts = [template.format(name) for name in names for template in templates]
    source = open_source(spec.format(pictures))
    subject = real.subject(tmp_path, objective, source.spec, texts)
    section = sections.ZeroShot(
        family=family, classes=str(path), examples=real.COUNT, batch_size=5, texts_at_once=3, blind_images=4
    )
    values = dict(build(section).run(subject))

    ids, scores = real.scores(subject, source.spec, "similarity", [subject.tokenizer.encode(t, 99) for t in texts])
    right = []
    for image, row in zip(ids, scores, strict=True):
        label = source[image].labels[family]
        shown = [int(label)] if label.ndim == 0 else np.flatnonzero(label).tolist()
        if len(shown) == 1:
            right.append((shown[0], shown[0] == np.argmax([row[:2].mean(), row[2:].mean()])))
    assert (len(right) < real.COUNT) == (source.families[family].kind == "presence") and len(right) > 3
    by_class = [np.mean([hit for own, hit in right if own == kind]) for kind in range(2)]
    assert values == {
        "similarity/accuracy": pytest.approx(np.mean([hit for _, hit in right])),
        "similarity/mean_per_class": pytest.approx(np.mean(by_class)),
        "chance": 0.5,
    }


def test_what_cannot_be_named_is_refused_before_training(tmp_path, use_source, classes):
    use_source(Animals())
    subject = make_subject(tmp_path, Namer())
    section = dataclasses.replace(SECTION, classes=classes, scorers=())
    build(section).check(subject.config)
    with pytest.raises(ConfigError, match=r"families of classes animal, noise, both; name one"):
        build(dataclasses.replace(section, family="")).check(subject.config)
    with pytest.raises(ConfigError, match='no label family "animals"; did you mean "animal"'):
        build(dataclasses.replace(section, family="animals")).check(subject.config)
    with pytest.raises(ConfigError, match="has 6 tokens, and the model reads 4"):
        list(build(SECTION).run(subject))  # "a photo of a cat." and EOS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"templates": ["a {}"], "classes": ["cat"]}, "names 1 classes; the label family has 2: cat, dog"),
        ({"templates": ["a cat"], "classes": ["cat", "dog"]}, 'template "a cat" needs one'),
        ({"templates": "a {}", "classes": ["cat", "dog"]}, "no list of texts"),
        ({"classes": ["cat", "dog"]}, "KeyError"),
        ([], "should be"),
    ],
)
def test_files_of_classes_are_checked(tmp_path, content, message):
    path = tmp_path / "classes.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=message):
        class_names.texts(str(path), Family("class", ("cat", "dog")))


def test_a_missing_file_of_classes_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing\.json should be"):
        class_names.texts(str(tmp_path / "nothing.json"), Family("class", ("cat", "dog")))
    assert class_names.texts("", Family("class", ("polar_bear",))) == [["a photo of a polar bear."]]


def test_a_tie_is_wrong():
    scores = np.array([[1.0, 1.0], [0.0, 2.0], [3.0, 1.0]])
    column = "as it is"
    pairs = types.SimpleNamespace(
        carried={"label/animal": np.array([0, 1, 1]), "id": np.arange(3)}, columns=lambda: [(column, scores)]
    )
    _, _, found = zero_shot._choose(pairs, "animal", templates=1)
    assert found[column].right_N.tolist() == [False, True, False]
