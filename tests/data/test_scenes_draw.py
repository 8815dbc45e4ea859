import numpy as np
import pytest

from mdc_jax.data.scenes import draw
from mdc_jax.data.scenes.layout import COLOURS, SHAPES, Object, Scene, compose

LEVEL = 42


def _image(shape: str, *, colour: int = 0, texture: int = 0, radius: float = 0.3, size: int = 64) -> np.ndarray:
    item = Object(SHAPES.index(shape), colour, 1, texture, 0.5, 0.5, radius)
    return draw.draw(Scene(1, LEVEL, (item,)), size)


@pytest.mark.parametrize("size", [48, 64, 224])
@pytest.mark.parametrize("kind", ["grid", "free"])
def test_pixels_away_from_objects_are_background(kind, size):
    for i in range(100):
        scene = compose("train", i, layout=kind)
        image = draw.draw(scene, size)
        assert image.shape == (size, size, 3) and image.dtype == np.uint8
        centres = (np.arange(size) + 0.5) / size
        empty = np.ones((size, size), bool)
        for o in scene.objects:
            reach = o.radius + 1.5 / size  # the soft edge
            box = (abs(centres[:, None] - o.y) < reach) & (abs(centres[None] - o.x) < reach)
            assert (image[box] != scene.level).any()
            empty &= ~box
        assert (image[empty] == scene.level).all()


@pytest.mark.parametrize("colour", range(len(COLOURS)))
def test_the_colour_is_that_of_the_word(colour):
    r, g, b = (int(c) for c in _image("square", colour=colour)[32, 32])
    bright = {"red": "r", "green": "g", "blue": "b", "yellow": "rg", "cyan": "gb", "magenta": "rb"}[COLOURS[colour]]
    for name, value in (("r", r), ("g", g), ("b", b)):
        assert value > 180 if name in bright else value < 100


def test_shapes_cover_what_their_name_says():
    size, radius = 256, 0.25
    y, x = (np.mgrid[:size, :size] + 0.5) / size - 0.5
    distance = np.hypot(x, y)
    expected = {
        "circle": distance < radius,
        "square": np.maximum(abs(x), abs(y)) < 0.8 * radius,
        "ring": (distance < radius) & (distance > 0.55 * radius),
        "cross": (np.minimum(abs(x), abs(y)) < 0.36 * radius) & (np.maximum(abs(x), abs(y)) < radius),
    }
    covers = {shape: _image(shape, radius=radius, size=size)[..., 0] > (LEVEL + draw.RGB[0][0]) / 2 for shape in SHAPES}
    for shape, mask in expected.items():
        union = (covers[shape] | mask).sum()
        assert (covers[shape] & mask).sum() / union > 0.97, shape
    triangle = covers["triangle"]
    widths = triangle.sum(1)[triangle.any(1)]
    assert (np.diff(widths.astype(int))[3:-3] >= 0).all() and widths[-4] > 0.4 * size
    for cover in covers.values():
        assert abs(np.nonzero(cover.any(0))[0].mean() - (size - 1) / 2) < 1  # left and right alike


def test_edges_are_soft_and_positions_finer_than_pixels():
    image = _image("circle")
    assert ((image[..., 0] > LEVEL + 20) & (image[..., 0] < 210)).sum() > 20
    item = Object(0, 0, 0, 0, 0.5, 0.5, 0.2)
    moved = Object(0, 0, 0, 0, 0.5 + 0.3 / 64, 0.5, 0.2)
    assert (draw.draw(Scene(0, 8, (item,)), 64) != draw.draw(Scene(0, 8, (moved,)), 64)).any()


@pytest.mark.parametrize("shape", SHAPES)
def test_stripes_change_along_y_and_keep_the_outline(shape):
    plain, striped = _image(shape), _image(shape, texture=1)
    outline = (plain != LEVEL).any(-1)
    assert ((striped != LEVEL).any(-1) == outline).mean() > 0.98
    inside = (plain == np.array(draw.RGB[0])).all(-1)
    rows = [striped[y, :, 0][inside[y]].astype(int) for y in range(64) if inside[y].any()]
    means = np.array([row.mean() for row in rows])
    assert means.max() > 200 and means.min() < 130
    assert max(np.ptp(row) for row in rows) <= 2
