import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from etils import epath

from mdc_jax.config import ConfigError, sections
from mdc_jax.data.sources.base import BadRecord, Foil
from mdc_jax.evaluators import base, build, compositionality, image_bank
from mdc_jax.evaluators.base import Interrupted, chosen_scorers
from mdc_jax.evaluators.blind_decoder import BlindDecoder
from mdc_jax.objectives.base import Score
from mdc_jax.report import plots, tables
from tests.evaluators.fakes import BAD, SIZE, FakeObjective, FakeSource, make_subject
from tests.objectives import tiny

SECTION = sections.Compositionality(examples=20, batch_size=8, blind_images=10)
DOG = 5  # the token
UNREADABLE = 5  # a foil


class FoilSource(FakeSource):
    """A dog and a cat ("swap"), or one of them with a caption that also names the other ("add")."""

    foil_kinds = ("swap", "add")

    def foils(self, kind: str, index: int) -> Foil:
        if index >= 14:
            raise IndexError(index)
        if index == UNREADABLE and kind == "swap":
            raise BadRecord("damaged image")
        dogs, cats = (np.setdiff1d(np.flatnonzero(self.bits[:, 0] == bit), BAD) for bit in (1, 0))
        pair = (self[int(dogs[index % len(dogs)])].image, self[int(cats[index % len(cats)])].image)
        if kind == "swap":
            return Foil(kind, pair, ("a dog", "a cat"))
        image = b"\xff\xd8 cut" if index == UNREADABLE else pair[index % 2]  # which its source did not look at
        return Foil(kind, (image,), (("a dog", "a cat")[index % 2], "a cat dog"))


class FoilObjective(FakeObjective):
    """Three scorers: of the text alone, of image and text, and that one as a similarity."""

    def encode(self, params, images):
        features = super().encode(params, images)
        return features | {"tokens": features["quarters"][:, :1], "pooled": features["quarters"][:, 0]}

    @property
    def scorers(self):
        def text(params, features, captions, key):
            value = -(1 + captions["length"] + captions["text"].sum(-1) / 1000)
            return Score(value, jnp.full_like(value, 3.0), "exact")

        def seeing(params, features, captions, key):
            dog = features["tokens"][:, 0, 0] > 100
            says_dog = (captions["text"] == DOG).any(-1) & (captions["length"] == 3)
            says_cat = (captions["text"] == DOG - 1).any(-1) & (captions["length"] == 3)
            value = jnp.where(dog[:, None], says_dog, says_cat).astype(jnp.float32)
            return Score(value - 2.0, jnp.zeros_like(value), "bound")

        def similarity(*inputs):
            return dataclasses.replace(seeing(*inputs), kind="similarity")

        return {"text": text, "seeing": seeing, "similarity": similarity}


class TextOnly(FoilObjective):
    """Each of its scorers is that of the text alone."""

    def null_features(self, params, images):
        return {}

    @property
    def scorers(self):
        return dict.fromkeys(super().scorers, super().scorers["text"])


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return epath.Path(tmp_path_factory.mktemp("evaluation"))


@pytest.fixture(scope="module")
def found(out):
    """The metrics, and the lines of the CSV."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (base, compositionality, image_bank):
            patch.setattr(module, "open_source", lambda _: FoilSource(40))
        # What the decoder trained without images says is what the text alone is worth to this objective.
        decoder = BlindDecoder(TextOnly(), {})
        patch.setattr(compositionality.blind_decoder, "load", lambda subject, workdir: decoder)
        every = dataclasses.replace(SECTION, scorers=("text", "seeing", "similarity"), blind_workdir="text")
        values = dict(build(every).run(make_subject(out, FoilObjective())))
    return values, tables.read_csv(out / "foils.csv")


def number(rows, **wanted):
    (row,) = [row for row in rows if all(row[key] == str(value) for key, value in wanted.items())]
    return float(row["value"])


def test_scorers_are_named_or_all_or_the_first():
    every = tuple(FoilObjective().scorers)

    def chosen(*names):
        return chosen_scorers(sections.Compositionality(scorers=names), FoilObjective())

    assert chosen("all") == every and len(every) > 1
    assert chosen() == every[:1]
    assert chosen(*every[1:]) == every[1:]
    with pytest.raises(ConfigError, match='compositionality: the objective has no scorer "allx"'):
        chosen("allx")


def test_a_scorer_that_sees_is_right_and_one_of_the_text_alone_is_at_a_half(found):
    values, rows = found
    assert values["swap/seeing/accuracy"] == values["seeing/accuracy"] == values["add/similarity/accuracy"] == 1.0
    assert values["swap/text/accuracy"] == 0.5
    assert values["text/accuracy"] == pytest.approx((0.5 + values["add/text/accuracy"]) / 2)
    for metric, expected in {"accuracy": 0.5, "text": 0, "image": 0, "group": 0}.items():
        wanted = {"kind": "swap", "scorer": "text", "row": "model", "exponent": 0, "metric": metric}
        assert number(rows, **wanted, per="caption") == number(rows, **wanted, per="token") == expected
    assert number(rows, kind="swap", scorer="seeing", row="model", exponent=0, metric="group", per="token") == 1.0


def test_debiasing_leaves_nothing_of_a_score_of_the_text_alone(found):
    _, rows = found
    wanted = {"kind": "add", "scorer": "text", "metric": "accuracy", "per": "caption"}
    assert number(rows, **wanted, row="model", exponent=0) == 1.0
    for prior in ("images", "decoder"):
        assert number(rows, **wanted, row="blind", prior=prior) == 1.0
        less = wanted | {"row": "model", "prior": prior, "exponent": "1"}
        assert number(rows, **less) == 0.0  # ties are wrong
        (row,) = [row for row in rows if all(row[key] == value for key, value in less.items())]
        assert int(row["ties"]) == int(row["foils"]) == 13  # fewer than were asked for: all that the source has
    # Per token the longer caption scores higher, about -5 / 4 against -4 / 3.
    assert number(rows, **(wanted | {"per": "token"}), row="model", exponent=0) == 0.0


def test_each_prior_is_taken_away_by_itself(found):
    _, rows = found
    # The image speaks for the true caption with 1 nat; the decoder finds the shorter one likelier by 1.005 nats, which
    # is always the true one, and the mean over images by less than 1.
    wanted = {"kind": "add", "scorer": "seeing", "metric": "accuracy", "per": "caption", "row": "model"}
    assert number(rows, **wanted, exponent=1, prior="images") == 1.0
    assert number(rows, **wanted, exponent=1, prior="decoder") == 0.0
    assert number(rows, **wanted, exponent=0.5, prior="decoder") == 1.0


def test_similarities_have_no_blind_row_and_nothing_to_debias(found, out):
    _, rows = found
    found = {(row["row"], row["exponent"], row["per"]) for row in rows if row["scorer"] == "similarity"}
    assert found == {("model", "0", "caption")}
    assert "## similarity (similarity)" in (text := (out / "foils.md").read_text())
    assert text.count("no log-probability") == 1


def test_there_is_a_line_for_each_foil_with_all_its_scores(found, out):
    lines = [json.loads(line) for line in (out / "foils.jsonl").read_text().splitlines()]
    numbers = [number for number in range(14) if number != UNREADABLE]
    assert [(line["kind"], line["index"]) for line in lines] == [(k, i) for k in ("swap", "add") for i in numbers]
    first = lines[0]
    assert first["captions"] == ["a dog", "a cat"] and first["tokens"] == [3, 3]
    assert list(first["scorers"]) == ["text", "seeing", "similarity"]  # as they were asked for
    seeing = first["scorers"]["seeing"]
    assert seeing["scores"] == [[-1, -2], [-2, -1]] and seeing["right"]["group"] == 1
    assert first["scorers"]["text"]["standard_error_of_difference"] == pytest.approx([3 * 2**0.5] * 2)
    assert first["scorers"]["similarity"]["blind"] == {}
    assert first["scorers"]["seeing"]["blind"]["decoder"] == first["scorers"]["text"]["scores"][0]
    # log-mean-exp over the training images, of which a share s are dogs.
    assert np.exp(seeing["blind"]["images"]).sum() == pytest.approx(np.exp(-1.0) + np.exp(-2.0), rel=1e-5)


def test_the_error_of_a_choice_is_that_to_the_likeliest_of_the_others():
    value, error = jnp.array([[0.0, -3.0, -1.0], [0.0, -1.0, -3.0]]), jnp.array([[1.0, 2.0, 3.0]] * 2)
    found = compositionality._error(Score(value, error, "bound"))
    np.testing.assert_allclose(found, [10**0.5, 5**0.5], rtol=1e-6)


def test_the_picture_marks_where_a_wrong_choice_differs(tmp_path, use_source, monkeypatch):
    use_source(FoilSource(40))
    drawn = []
    monkeypatch.setattr(plots, "captions", lambda path, examples, title: drawn.extend(examples))
    section = dataclasses.replace(SECTION, scorers=("text",), picture=2)
    list(build(section).run(make_subject(tmp_path, FoilObjective())))
    assert len(drawn) == 2 * 2 + 2
    assert drawn[0].truth == "a dog" and drawn[0].generated == [("a", False), ("cat", True)]
    assert drawn[1].truth == "a cat" and drawn[1].generated == [("a", False), ("cat", False)]
    assert drawn[0].image.shape == (SIZE, SIZE, 3)


def test_a_picture_is_drawn(found, out):
    assert PIL.Image.open(out / "foils.png").width > 500


def test_evaluation_stops_between_batches_and_leaves_no_file(tmp_path, use_source):
    use_source(FoilSource(40))
    answers = iter([False, False, True])
    with pytest.raises(Interrupted):
        list(build(SECTION).run(make_subject(tmp_path, FoilObjective(), lambda: next(answers))))
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_evaluated_is_named_before_training(tmp_path, use_source):
    subject = make_subject(tmp_path, FoilObjective())
    use_source(FakeSource(40))
    with pytest.raises(ConfigError, match=r"fake has no foils: set split to a source"):
        build(SECTION).check(subject.config)
    use_source(FoilSource(40))
    build(SECTION).check(subject.config)
    with pytest.raises(ConfigError, match='no kind "swop"; did you mean "swap"'):
        build(dataclasses.replace(SECTION, kinds=("swop",))).check(subject.config)
    with pytest.raises(ConfigError, match='compositionality: the objective has no scorer "txt"'):
        build(dataclasses.replace(SECTION, scorers=("txt",))).check(subject.config)
    with pytest.raises(ConfigError, match='no scorer "txt"; did you mean "text"'):
        list(build(dataclasses.replace(SECTION, scorers=("txt",))).run(subject))


def test_foils_of_several_captions_and_groups_have_a_mean_over_groups(tmp_path, use_source):
    class Grouped(FoilSource):
        foil_kinds = ("order",)

        def foils(self, kind, index):
            foil = super().foils("add", index)
            true, longer = foil.captions
            return Foil(kind, foil.images, (true, longer, "cat dog a"), "dog" if "dog" in true else "cat")

    use_source(Grouped(40))
    section = dataclasses.replace(SECTION, scorers=("text", "seeing"))
    values = dict(build(section).run(make_subject(tmp_path, FoilObjective())))
    assert values["order/seeing/accuracy"] == values["order/seeing/macro"] == 1.0
    rows = [row for row in tables.read_csv(tmp_path / "foils.csv") if row["metric"] == "macro"]
    assert {row["scorer"] for row in rows} == {"text", "seeing"}
    lines = [json.loads(line) for line in (tmp_path / "foils.jsonl").read_text().splitlines()]
    assert [len(line["captions"]) for line in lines] == [3] * 13 and {line["group"] for line in lines} == {"dog", "cat"}
    assert "| macro" in (tmp_path / "foils.md").read_text()


@pytest.mark.parametrize("name", ["masked_diffusion", "autoregressive", "clip"])
def test_where_all_images_are_the_same_nothing_but_the_blind_score_is_left(name):
    objective = tiny.build(sections.OBJECTIVES[name]())
    params = tiny.trained(objective)
    batch = tiny.batch(captions=2)
    images = np.repeat(batch["image"][:1, None], 4, axis=0).repeat(2, axis=1)
    bank = {name: value for name, value in objective.encode(params, images[:, 0]).items() if name != "blocks"}
    captions = {"text": batch["text"], "length": batch["length"]}
    names = tuple(objective.scorers)[:1]
    found = compositionality._scores(objective, names, params, captions | {"image": images}, bank, None, 0)
    for scored in found.values():
        first = np.asarray(scored.score.value)
        np.testing.assert_allclose(first[:, 0], first[:, 1], rtol=1e-5)  # both images have the same random numbers
        if name == "clip":
            assert not scored.blind
            continue
        blind, others = (np.asarray(scored.blind["images"].score.value), scored.blind["images"].debiased)
        np.testing.assert_allclose(first[:, :1], blind, rtol=1e-4)
        np.testing.assert_allclose(others[0].value, first / 2, rtol=1e-3)
        np.testing.assert_allclose(others[1].value, 0, atol=1e-3)
