"""The benchmark compares what it says."""

import functools

import jax
import numpy as np
import pytest

from mdc_jax.benchmarks import scoring
from mdc_jax.config import sections
from mdc_jax.scoring import enumeration
from tests.objectives import tiny

TEXT = np.array([[3, 4, 5, 1], [6, 1, 0, 0], [7, 8, 1, 0]])
LENGTH = np.array([4, 2, 3])


def test_an_image_meets_its_own_caption_first_and_then_those_of_the_next():
    captions = scoring.with_next_captions(TEXT, LENGTH, 2)
    np.testing.assert_array_equal(captions["text"][:, 0], TEXT)
    np.testing.assert_array_equal(captions["text"][:, 1], TEXT[[1, 2, 0]])
    np.testing.assert_array_equal(captions["length"], [[4, 2], [2, 3], [3, 4]])


def test_one_word_is_changed_into_one_of_the_next_caption():
    captions = scoring.with_one_word_changed(TEXT, LENGTH)
    np.testing.assert_array_equal(captions["text"][:, 0], TEXT)
    np.testing.assert_array_equal(captions["text"][:, 1], [[3, 6, 5, 1], [7, 1, 0, 0], [7, 4, 1, 0]])
    np.testing.assert_array_equal(captions["length"][:, 1], LENGTH)


def test_the_estimate_is_the_bound_of_all_masks_on_average():
    objective = tiny.build(sections.MaskedDiffusion())
    params, batch = tiny.trained(objective), tiny.batch(20)
    batch["length"][3] = 0
    captions = {name: batch[name] for name in ("text", "length")}
    features = jax.device_get(objective.encode(params, batch["image"]))
    count, difference, error = scoring.bias(objective, params, features, captions)
    assert count == 19
    assert abs(difference) < 4 * error < 0.5


def test_captions_that_are_too_long_for_all_their_masks_are_left_out(monkeypatch):
    monkeypatch.setattr(scoring.enumeration, "exhaustive", functools.partial(enumeration.exhaustive, most=2))
    objective = tiny.build(sections.MaskedDiffusion())
    params, batch = tiny.trained(objective), tiny.batch(8)
    batch["length"][:] = 6
    captions = {name: batch[name] for name in ("text", "length")}
    features = jax.device_get(objective.encode(params, batch["image"]))
    assert scoring.bias(objective, params, features, captions)[0] == 0


@pytest.mark.slow
def test_errors_fall_with_the_number_of_masks_and_are_what_is_claimed():
    objective = tiny.build(sections.MaskedDiffusion())
    params, batch = tiny.trained(objective), tiny.batch(100)
    long = batch["length"][:, 0] > 3
    batch = {name: value[long] for name, value in batch.items()}
    captions = scoring.with_one_word_changed(batch["text"][:, 0], batch["length"][:, 0])
    features = jax.device_get(objective.encode(params, batch["image"]))
    rows = np.array(scoring.errors(objective, params, features, captions))
    assert rows.shape == (5, len(scoring.HEADER))
    assert (np.diff(rows[:, 0]) > 0).all() and (np.diff(rows[:, 1:], axis=0) < 0).all()
    np.testing.assert_allclose(rows[:, [1, 3]], rows[:, [2, 4]], rtol=0.25)
