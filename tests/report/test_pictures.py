"""Pictures show what they say: like tokens in like colours, light where the weights are."""

import numpy as np

from mdc_jax.report import pictures


def test_like_tokens_have_like_colours_whatever_the_image():
    kinds = np.random.default_rng(0).normal(size=(4, 16))
    which = np.array([[0, 1, 2, 3], [3, 0, 0, 1]])
    tokens = np.concatenate([np.ones((2, 1, 16)), kinds[which]], axis=1)  # a class token first
    colours = pictures.as_colours(tokens).reshape(8, 3)
    same = np.equal.outer(which.ravel(), which.ravel())
    np.testing.assert_array_equal((colours[:, None] == colours[None]).all(-1), same)


def test_light_falls_where_the_weights_are():
    lit = pictures.spotlight(np.full((6, 6, 3), 200, np.uint8), np.array([0.0, 0.1, 0.4, 0.0]))
    assert (lit[3:, :3] == 200).all() and (lit[:3, :3] == 30).all()
    assert (lit[:3, 3:] > 30).all() and (lit[:3, 3:] < 200).all()


def test_every_image_has_its_place_and_title():
    figure = pictures.grid([np.zeros((2, 2, 3), np.uint8)] * 3, ["a", "$b", "c"], columns=2)
    shown = [axes for axes in figure.axes if axes.images]
    assert len(figure.axes) == 4 and [axes.get_title() for axes in shown] == ["a", "$b", "c"]
