"""From a scene to pixels: anti-aliased, and no object hides another.

`size` is the image's side in pixels; h x w are the pixels of the box around one object.
"""

import math

import cv2
import numpy as np

from mdc_jax.data.scenes.layout import SHAPES, TEXTURES, Scene

RGB = ((230, 50, 50), (50, 190, 60), (70, 90, 240), (235, 220, 50), (50, 215, 225), (225, 70, 215))  # as COLOURS

_STRIPE_PERIOD = 0.08  # share of the side
_STRIPE_SHADE = 0.45  # brightness of the darker stripes
_RING_HOLE = 0.55  # share of the radius
_BLEED = 0.55  # pixels by which cv2's anti-aliased fill reaches beyond the outline
_SHIFT = 8  # fractional bits of cv2's coordinates


def _star() -> list[tuple[float, float]]:
    """Five points; shifted down so that it fills the square from -1 to 1."""
    radii = (1.05, 0.5)
    return [
        (radii[i % 2] * math.sin(i * math.pi / 5), 0.1 - radii[i % 2] * math.cos(i * math.pi / 5)) for i in range(10)
    ]


_A = 0.36  # half the width of the cross's arms
_OUTLINES = {  # for radius 1, inside the square from -1 to 1
    "square": [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)],
    "triangle": [(0.0, -1.0), (0.95, 0.75), (-0.95, 0.75)],
    "star": _star(),
    "cross": [
        *((-_A, -1), (_A, -1), (_A, -_A), (1, -_A), (1, _A), (_A, _A)),
        *((_A, 1), (-_A, 1), (-_A, _A), (-1, _A), (-1, -_A), (-_A, -_A)),
    ],
}
_OUTLINES = {name: np.array(points, np.float32) for name, points in _OUTLINES.items()}


def draw(scene: Scene, size: int) -> np.ndarray:
    """The scene as u8[size, size, 3], RGB."""
    image = np.full((size, size, 3), scene.level, np.uint8)
    for item in scene.objects:
        # cv2's pixel i covers [i - 0.5, i + 0.5].
        x, y, radius = item.x * size - 0.5, item.y * size - 0.5, item.radius * size
        shape, colour = SHAPES[item.shape], RGB[item.colour]
        _fill(image, shape, x, y, radius, colour, scene.level)
        if TEXTURES[item.texture] == "striped":
            left, top = max(0, int(x - radius) - 1), max(0, int(y - radius) - 1)
            box_hxwx3 = image[top : int(y + radius) + 3, left : int(x + radius) + 3]
            shaded_hxwx3 = np.full_like(box_hxwx3, scene.level)
            shade = tuple(int(_STRIPE_SHADE * c) for c in colour)
            _fill(shaded_hxwx3, shape, x - left, y - top, radius, shade, scene.level)
            bright_h = _stripes(len(box_hxwx3), y - top, _STRIPE_PERIOD * size)
            bright_hxw = np.repeat(bright_h, box_hxwx3.shape[1]).reshape(box_hxwx3.shape[:2])
            box_hxwx3[:] = cv2.blendLinear(box_hxwx3, shaded_hxwx3, bright_hxw, 1 - bright_hxw)
    return image


def _stripes(h: int, y: float, period: float) -> np.ndarray:
    """Weight f32[h] of the brighter stripes in each row; one of them lies on the centre, row y."""
    rows = np.arange(h, dtype=np.float32)
    wave = np.cos((rows - np.float32(y)) * np.float32(2 * math.pi / period))
    return np.minimum(np.maximum(1.5 * wave + 0.5, 0), 1)


def _fill(
    image: np.ndarray, shape: str, x: float, y: float, radius: float, colour: tuple[int, int, int], level: int
) -> None:
    """Paints a shape; a ring's hole becomes background again."""
    unit = 1 << _SHIFT
    outer = radius - _BLEED
    if shape in _OUTLINES:
        points = (_OUTLINES[shape] * (outer * unit) + np.array([[x * unit, y * unit]])).astype(np.int32)
        cv2.fillPoly(image, [points], colour, cv2.LINE_AA, _SHIFT)
        return
    centre = round(x * unit), round(y * unit)
    cv2.circle(image, centre, round(outer * unit), colour, cv2.FILLED, cv2.LINE_AA, _SHIFT)
    if shape == "ring":
        hole = round((_RING_HOLE * radius - _BLEED) * unit)
        cv2.circle(image, centre, hole, (level, level, level), cv2.FILLED, cv2.LINE_AA, _SHIFT)
