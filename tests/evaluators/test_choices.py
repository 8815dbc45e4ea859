import zlib

import numpy as np
import pytest

from mdc_jax.data import foil_kinds
from mdc_jax.data.sources import open_source
from mdc_jax.evaluators import choices

# [image][caption] of one foil: text, image, group right; and the share of images that choose right.
WINOGROUND = [
    ([[2, 1], [0, 3]], 1, 1, 1, 1.0),
    ([[2, 1], [4, 5]], 1, 0, 0, 1.0),  # caption 0 prefers the wrong image
    ([[2, 3], [1, 4]], 0, 1, 0, 0.5),  # image 0 prefers the wrong caption
    ([[1, 2], [2, 1]], 0, 0, 0, 0.0),
    ([[2, 2], [0, 3]], 0, 1, 0, 0.5),  # a tie of captions
    ([[2, 1], [2, 3]], 1, 0, 0, 1.0),  # a tie of images
    ([[1, 1], [1, 1]], 0, 0, 0, 0.0),
]


@pytest.mark.parametrize(("scores", "text", "image", "group", "accuracy"), WINOGROUND)
def test_two_images_are_judged_as_by_winoground_and_ties_are_wrong(scores, text, image, group, accuracy):
    found = choices.choices(np.array([scores], float))
    assert [found[name].right_N[0] for name in ("text", "image", "group", "accuracy")] == [text, image, group, accuracy]


def test_ties_are_counted():
    found = choices.choices(np.array([scores for scores, *_ in WINOGROUND], float))
    assert {name: choice.ties for name, choice in found.items()} == {"accuracy": 3, "text": 3, "image": 3, "group": 6}


def test_a_single_image_has_accuracy_alone():
    found = choices.choices(np.array([[[2.0, 1.0]], [[1.0, 2.0]], [[1.0, 1.0]], [[np.nan, 1.0]]]))
    assert list(found) == ["accuracy"] and found["accuracy"].right_N.tolist() == [1, 0, 0, 0]
    assert found["accuracy"].ties == 1


@pytest.mark.parametrize("kind", foil_kinds.PAIRS)
def test_any_score_of_the_text_alone_is_right_half_of_the_time_and_never_both_times(kind):
    source = open_source("scenes:test")
    captions = [source.foil_contents(kind, index).captions for index in range(100)]
    for seed in range(5):
        text_NxC = np.array([[zlib.crc32(caption.encode(), seed) for caption in pair] for pair in captions], float)
        found = choices.choices(np.repeat(text_NxC[:, None], 2, axis=1))
        assert found["accuracy"].right_N.tolist() == [0.5] * 100
        assert not any(found[name].right_N.any() for name in ("text", "image", "group"))


def test_random_scores_are_at_chance_and_the_interval_covers_it():
    scores = np.random.default_rng(0).standard_normal((1000, 2, 2))
    chance = {"accuracy": 1 / 2, "text": 1 / 4, "image": 1 / 4, "group": 1 / 6}
    for name, choice in choices.choices(scores).items():
        value, low, high = choice.interval()
        assert low < value < high and low - 0.02 < chance[name] < high + 0.02
        width = 2 * 1.96 * choice.right_N.std() / np.sqrt(1000)
        assert high - low == pytest.approx(width, rel=0.15)


@pytest.mark.parametrize(
    ("right", "low", "high"),
    [(1.0, 0.025 ** (1 / 40), 1.0), (0.0, 0.0, 1 - 0.025 ** (1 / 40)), (0.5, 0.025 ** (1 / 40) / 2, None)],
)
def test_what_is_the_same_for_all_foils_has_an_interval_nevertheless(right, low, high):
    expected = (right, low, 1 - low if high is None else high)
    assert choices.Choice(np.full(40, right), 0).interval() == pytest.approx(expected)


def test_of_several_captions_the_true_one_must_beat_all_others():
    scores = np.array([[[3.0, 1, 2, 0, -1]], [[3.0, 1, 4, 0, -1]], [[3.0, 3, 2, 0, -1]]])
    (choice,) = choices.choices(scores).values()
    assert choice.right_N.tolist() == [1, 0, 0] and choice.ties == 1


def test_the_mean_over_groups_weighs_each_alike():
    right = np.array([1, 1, 1, 0, 0, 1.0])
    value, low, high = choices.Choice(right, 0).macro(("on", "on", "on", "on", "under", "under"))
    assert value == pytest.approx((0.75 + 0.5) / 2)
    assert low < value < high
