"""What linear probes predict of a scene. No label depends on how a caption words it."""

from collections.abc import Iterator, Mapping

import numpy as np

from mdc_jax.data.scenes.layout import BACKGROUNDS, COLOURS, COUNTS, SHAPES, SIZES, TEXTURES, Object, Scene, relation
from mdc_jax.data.sources.base import Family

_DIRECTIONS = ("left", "right", "higher", "lower")  # in the order of RELATIONS

FAMILIES: Mapping[str, Family] = {
    "shape": Family("presence", SHAPES),
    "colour": Family("presence", COLOURS),
    "size": Family("presence", SIZES),
    "texture": Family("presence", TEXTURES),
    "count": Family("class", COUNTS),
    "background": Family("class", BACKGROUNDS),
    "direction": Family("class", _DIRECTIONS),
    "pair": Family("presence", tuple(f"{c} {s}" for c in COLOURS for s in SHAPES), bound=True),
    "relation": Family("class", _DIRECTIONS, bound=True),
}


class Labels(Mapping[str, np.ndarray]):
    """The labels of a scene by family, each computed when it is asked for."""

    def __init__(self, scene: Scene):
        self._scene = scene

    def __getitem__(self, family: str) -> np.ndarray:
        return _LABEL[family](self._scene)

    def __iter__(self) -> Iterator[str]:
        return iter(FAMILIES)

    def __len__(self) -> int:
        return len(FAMILIES)


def _presence(names: int, present: list[int]) -> np.ndarray:
    label = np.zeros(names, np.uint8)
    label[present] = 1
    return label


def _direction(scene: Scene) -> np.ndarray:
    """Where the smaller object lies as seen from the larger; -1 unless there is one of each and it is clear."""
    large: list[Object] = [item for item in scene.objects if item.size == 1]
    small: list[Object] = [item for item in scene.objects if item.size == 0]
    stated = relation(small[0], large[0]) if len(large) == len(small) == 1 else None
    return np.int32(-1 if stated is None else stated)


_LABEL = {
    "shape": lambda scene: _presence(len(SHAPES), [o.shape for o in scene.objects]),
    "colour": lambda scene: _presence(len(COLOURS), [o.colour for o in scene.objects]),
    "size": lambda scene: _presence(len(SIZES), [o.size for o in scene.objects]),
    "texture": lambda scene: _presence(len(TEXTURES), [o.texture for o in scene.objects]),
    "count": lambda scene: np.int32(len(scene.objects) - 1),
    "background": lambda scene: np.int32(scene.background),
    "direction": _direction,
    "pair": lambda scene: _presence(
        len(COLOURS) * len(SHAPES), [o.colour * len(SHAPES) + o.shape for o in scene.objects]
    ),
    "relation": _direction,
}
