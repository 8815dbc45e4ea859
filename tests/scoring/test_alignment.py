import numpy as np

from mdc_jax.scoring import alignment


def positions(*captions, size=8):
    tokens = np.zeros((1, len(captions), size), np.int32)
    for row, caption in zip(tokens[0], captions, strict=True):
        row[: len(caption)] = caption
    length = np.array([[len(caption) for caption in captions]], np.int32)
    found = np.asarray(alignment.aligned_positions(tokens, length))[0]
    for row in found:
        assert len(set(row.tolist())) == size
        assert row.min() >= 0 and row.max() < 2 * size
    return [row[: len(caption)].tolist() for row, caption in zip(found, captions, strict=True)]


def test_prefix_and_suffix_share_their_places_also_where_lengths_differ():
    first, longer, shorter = positions([1, 2, 3, 4, 5], [1, 2, 7, 8, 4, 5], [1, 2, 4, 5])
    assert first == [0, 1, 2, 3, 4]
    assert longer == [0, 1, 2, 8 + 3, 3, 4]
    assert shorter == [0, 1, 3, 4]


def test_swapped_and_replaced_words_share_the_place_where_they_stand():
    assert positions([1, 2, 3, 4], [1, 3, 2, 4], [5, 6, 7, 8]) == [[0, 1, 2, 3]] * 3


def test_a_repeated_word_is_prefix_or_suffix_but_not_both():
    assert positions([1, 1, 1], [1, 1], [1, 1, 1, 1, 1]) == [[0, 1, 2], [0, 1], [0, 1, 2, 8 + 3, 8 + 4]]


def test_a_caption_of_no_tokens_and_one_as_long_as_the_canvas():
    assert positions([1, 2], [], [3] * 8)[:2] == [[0, 1], []]
    assert positions([], [3] * 8)[1] == list(range(8, 16))
