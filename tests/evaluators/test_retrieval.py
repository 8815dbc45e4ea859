import collections
import dataclasses
import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from mdc_jax.config import ConfigError, sections
from mdc_jax.data.sources import open_source
from mdc_jax.data.sources.base import Record
from mdc_jax.evaluators import build, retrieval
from mdc_jax.evaluators.base import Interrupted
from mdc_jax.evaluators.pair_scores import Pairs
from mdc_jax.objectives.base import Score
from mdc_jax.report import tables
from tests.evaluators import real
from tests.evaluators.fakes import BAD, FakeObjective, FakeSource, make_subject

COUNT = 24
SECTION = sections.Retrieval(examples=COUNT, batch_size=8, texts_at_once=2, blind_images=8)
SAYS = {False: ("a cat", "cat a", "a cat"), True: ("a dog", "dog")}  # "a cat" stands twice


class Captioned(FakeSource):
    """Several captions of each image, which images of the same animal share."""

    def __getitem__(self, index):
        record = super().__getitem__(index)
        return Record(record.image, SAYS[bool(self.bits[index, 0])])


class Matcher(FakeObjective):
    """Knows the animal, and finds every text with a dog likelier."""

    def encode(self, params, images):
        features = super().encode(params, images)
        return features | {"tokens": features["quarters"][:, :1], "pooled": features["quarters"][:, 0]}

    @property
    def scorers(self):
        def scorer(params, features, captions, key):
            dog = features["tokens"][:, 0, 0] > 100
            says = [(captions["text"] == token).any(-1).astype(jnp.float32) for token in (4, 5)]
            value = jnp.where(dog[:, None], says[1], says[0]) + 5 * says[1]
            return Score(value, jnp.zeros_like(value), "exact")

        return {"matcher": scorer}


def by_hand(scores, captions):
    """Recall by (direction, k), one query after the other; `captions` are lists of text ids by image."""
    found = collections.defaultdict(list)
    images, texts = range(len(captions)), range(scores.shape[1])
    for image in images:
        # Wrong ones stand first among equals.
        order = sorted(texts, key=lambda text: (-scores[image, text], text in captions[image]))
        for k in retrieval.PLACES:
            found[retrieval.TO_TEXT, k].append(any(text in captions[image] for text in order[:k]))
        for text in captions[image]:
            order = sorted(images, key=lambda other: (-scores[other, text], text in captions[other]))
            for k in retrieval.PLACES:
                found[retrieval.TO_IMAGE, k].append(any(text in captions[other] for other in order[:k]))
    return {key: float(np.mean(right)) for key, right in found.items()}


def test_recall_is_that_of_sorting_by_hand_with_shared_captions_and_ties():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, (20, 33)).astype(np.float32)
    captions = [[int(text) for text in rng.integers(0, 33, rng.integers(1, 6))] for _ in range(20)]
    written = np.zeros(scores.shape, np.int32)
    for image, own in enumerate(captions):
        np.add.at(written[image], own, 1)
    kept = written.any(0)
    assert not kept.all() and (written > 1).any() and ((written > 0).sum(0) > 1).any()
    blind, length = rng.normal(size=33), rng.integers(1, 5, 33)
    lines = list(retrieval._lines(Pairs("exact", scores, blind, length, {}), written))

    place = np.cumsum(kept) - 1
    renumbered = [[int(place[text]) for text in own] for own in captions]
    for exponent in (0.0, 0.5, 1.0):
        for per, divisor in (("caption", np.ones(33)), ("token", length)):
            expected = by_hand(((scores - exponent * blind) / divisor)[:, kept], renumbered)
            for line in lines:
                if (line["exponent"], line["per"]) == (exponent, per):
                    assert line["value"] == pytest.approx(expected[line["direction"], line["k"]])
                    assert line["low"] <= line["value"] <= line["high"]
            if per == "caption":  # what is taken from a text leaves the order of its images
                plain = by_hand(scores[:, kept], renumbered)
                assert expected[retrieval.TO_IMAGE, 5] == plain[retrieval.TO_IMAGE, 5]
    assert {line["direction"] for line in lines if line["exponent"]} == {retrieval.TO_TEXT}

    # The predictions are those that the recalls count, a line for each query.
    pairs = Pairs("exact", scores, blind, length, {"id": np.arange(20)})
    predictions = list(retrieval._predictions("matcher", pairs, written))
    plain = by_hand(scores[:, kept], renumbered)
    for direction, queries in ((retrieval.TO_TEXT, 20), (retrieval.TO_IMAGE, written.sum())):
        own = [line for line in predictions if line["metric"] == f"matcher/{direction}"]
        assert len(own) == queries
        for k in retrieval.PLACES:
            assert np.mean([line["rank"] <= k for line in own]) == pytest.approx(plain[direction, k])
        assert all(line["right"] == (line["rank"] == 1) for line in own)


def test_chance_is_that_of_all_draws():
    for right, items, k in ((1, 5, 1), (2, 6, 3), (3, 4, 2), (1, 3, 5)):
        draws = list(itertools.combinations(range(items), min(k, items)))
        expected = np.mean([any(item < right for item in draw) for draw in draws])
        np.testing.assert_allclose(retrieval.chance(np.array([right]), items, k), [expected])


def test_debiasing_finds_captions_that_a_prior_hides(tmp_path, use_source):
    source = Captioned(COUNT)
    use_source(source)
    values = dict(build(SECTION).run(make_subject(tmp_path, Matcher())))
    dogs = np.mean([source.bits[record, 0] for record in range(COUNT) if record != BAD])
    assert values["matcher/image_to_text/recall_1"] == pytest.approx(dogs)
    assert values["matcher/image_to_text/recall_5"] == 1.0
    assert values["matcher/text_to_image/recall_1"] == 1.0
    rows = tables.read_csv(make_subject(tmp_path).out / "retrieval.csv")
    (row,) = [
        r for r in rows if (r["direction"], r["exponent"], r["per"], r["k"]) == ("image_to_text", "1", "caption", "1")
    ]
    assert float(row["value"]) == 1.0 and int(row["images"]) == COUNT - 1 and int(row["texts"]) == 4
    text = (tmp_path / "retrieval.md").read_text()
    assert "23 images, 4 different captions" in text and "the mean over 8 training images (rough: take 64" in text


@pytest.mark.parametrize(
    ("spec", "objective", "scorer"),
    [
        ("pictures:{}:test", "clip", "similarity"),
        ("pictures:{}:test", "autoregressive", "autoregressive"),
        ("collage:{}:test,size=32,count=24", "siglip", "similarity"),
    ],
)
def test_real_models_find_what_scores_of_one_pair_after_the_other_say(tmp_path, pictures, spec, objective, scorer):
    source = open_source(spec.format(pictures))
    subject = real.subject(tmp_path, objective, source.spec)
    section = dataclasses.replace(SECTION, examples=real.COUNT, scorers=(scorer,))
    values = dict(build(section).run(subject))

    own = [[tuple(subject.tokenizer.encode(text, 99)) for text in source[i].captions] for i in range(real.COUNT)]
    texts = sorted({text for some in own for text in some})
    ids, scores = real.scores(subject, source.spec, scorer, texts)
    expected = by_hand(scores, [[texts.index(text) for text in own[i]] for i in ids])
    assert values == {f"{scorer}/{way}/recall_{k}": pytest.approx(value) for (way, k), value in expected.items()}
    assert len(set(values.values())) > 2 and sorted(ids) == list(range(real.COUNT))


def test_images_without_captions_and_unknown_scorers_are_refused(tmp_path, use_source):
    class Silent(FakeSource):
        def __getitem__(self, index):
            return dataclasses.replace(super().__getitem__(index), captions=())

    use_source(Silent(COUNT))
    subject = make_subject(tmp_path, Matcher())
    with pytest.raises(ConfigError, match="the images of fake:test have no captions"):
        list(build(SECTION).run(subject))
    with pytest.raises(ConfigError, match='no scorer "matchr"; did you mean "matcher"'):
        list(build(dataclasses.replace(SECTION, scorers=("matchr",))).run(subject))


def test_a_stopped_retrieval_writes_nothing(tmp_path, use_source):
    use_source(Captioned(COUNT))
    with pytest.raises(Interrupted):
        list(build(SECTION).run(make_subject(tmp_path, Matcher(), lambda: True)))
    assert not list(tmp_path.iterdir())
