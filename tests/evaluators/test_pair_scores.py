import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdc_jax.config import sections
from mdc_jax.evaluators import image_bank, pair_scores
from mdc_jax.training import sharding
from tests.evaluators.fakes import BAD, FakeObjective, FakeSource, make_subject
from tests.objectives import tiny

CAPTIONS = ("a cat", "a dog", "dog a cat", "a")
SOURCE = FakeSource(11)


def subject_of(tmp_path, objective, params):
    subject = make_subject(tmp_path, objective)
    config = dataclasses.replace(
        subject.config,
        image=sections.Image(size=tiny.SIZE),
        data=dataclasses.replace(subject.config.data, max_tokens=tiny.TOKENS),
    )
    params = jax.device_put(params, sharding.replicated(subject.mesh))
    return dataclasses.replace(subject, config=config, params=params)


def all_pairs(subject, scorer, texts_at_once):
    texts, bank = pair_scores.tokens(subject, CAPTIONS), image_bank.training_images(subject, 3)
    sizes = {"count": 11, "batch_size": 8, "texts_at_once": texts_at_once}
    return pair_scores.pairs(subject, "fake:test", texts, scorer, bank, labels=("noise",), **sizes), bank


@pytest.mark.parametrize(("name", "scorer"), [("masked_diffusion", "one_pass"), ("clip", "similarity")])
def test_every_pair_has_the_score_that_it_has_alone(name, scorer, tmp_path, use_source):
    use_source(SOURCE)
    objective = tiny.build(sections.OBJECTIVES[name]())
    params = tiny.trained(objective)
    subject = subject_of(tmp_path, objective, params)
    found, bank = all_pairs(subject, scorer, texts_at_once=3)  # the last chunk is filled up
    assert found.carried["id"].tolist() == [record for record in range(11) if record != BAD]

    ids = pair_scores.tokens(subject, CAPTIONS)
    text = np.array([[*row, *[0] * (tiny.TOKENS - len(row))] for row in ids], np.int32)
    length = np.array([len(row) for row in ids], np.int32)
    score = jax.jit(objective.scorers[scorer])

    def alone(features, place):
        captions = {"text": text[None, place : place + 1], "length": length[None, place : place + 1]}
        return float(score(params, features, captions, jax.random.key(0)).value[0, 0])

    seen = [image_bank.images.prepare(SOURCE[record].image, subject.config.image) for record in (0, 10)]
    for row, pixels in zip((0, -1), seen, strict=True):
        features = objective.encode(params, pixels[None])
        expected = [alone(features, place) for place in range(len(CAPTIONS))]
        np.testing.assert_allclose(found.value_NxT[row], expected, rtol=2e-4, atol=1e-5)

    if name == "clip":
        assert found.kind == "similarity" and found.blind_T is None
        assert [column for column, _ in found.columns()] == [(0.0, "caption")]
        return
    bank = jax.device_get(bank)
    features = [{key: rows[image : image + 1] for key, rows in bank.items()} for image in range(3)]
    blind = [np.logaddexp.reduce([alone(one, place) for one in features]) - np.log(3) for place in range(len(CAPTIONS))]
    np.testing.assert_allclose(found.blind_T, blind, rtol=2e-4)
    columns = dict(found.columns())
    np.testing.assert_allclose(columns[0.0, "caption"], found.value_NxT)
    np.testing.assert_allclose(columns[0.5, "token"], (found.value_NxT - 0.5 * found.blind_T[None]) / length[None])


def test_images_are_encoded_once_however_many_texts_are_read_at_once(tmp_path, use_source):
    use_source(SOURCE)
    encoded = []

    class Counting(FakeObjective):
        def encode(self, params, images):
            jax.debug.callback(encoded.append, images.shape[0] * jnp.ones(()))
            return super().encode(params, images)

    counts = []
    for texts_at_once in (1, 4):
        subject = make_subject(tmp_path, Counting())
        found, _ = all_pairs(subject, "ids", texts_at_once)
        jax.effects_barrier()
        counts.append(sum(map(float, encoded)))
        encoded.clear()
        assert found.value_NxT.shape == (10, 4)
    assert counts[0] == counts[1] > 0
