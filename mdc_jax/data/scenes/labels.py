"""What linear probes predict of a scene. No label depends on how a caption words it."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from mdc_jax.data.scenes.layout import BACKGROUNDS, COLOURS, COUNTS, SHAPES, SIZES, TEXTURES, Placed, Scene, relation
from mdc_jax.data.sources.base import Family

DIRECTIONS = ("left", "right", "higher", "lower")  # in the order of RELATIONS

FAMILIES: Mapping[str, Family] = {
    "shape": Family("presence", SHAPES),
    "colour": Family("presence", COLOURS),
    "size": Family("presence", SIZES),
    "texture": Family("presence", TEXTURES),
    "count": Family("class", COUNTS),
    "background": Family("class", BACKGROUNDS),
    "pair": Family("presence", tuple(f"{c} {s}" for c in COLOURS for s in SHAPES), bound=True),
    "relation": Family("class", DIRECTIONS, bound=True),
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


def presence(names: int, present: list[int]) -> np.ndarray:
    """u8[names], 1 for those that are present."""
    label = np.zeros(names, np.uint8)
    label[present] = 1
    return label


def direction(objects: Sequence[Placed]) -> np.ndarray:
    """Where the smaller object lies as seen from the larger; -1 unless there is one of each and it is clear."""
    large = [item for item in objects if item.size == 1]
    small = [item for item in objects if item.size == 0]
    stated = relation(small[0], large[0]) if len(large) == len(small) == 1 else None
    return np.int32(-1 if stated is None else stated)


_LABEL = {
    "shape": lambda scene: presence(len(SHAPES), [o.shape for o in scene.objects]),
    "colour": lambda scene: presence(len(COLOURS), [o.colour for o in scene.objects]),
    "size": lambda scene: presence(len(SIZES), [o.size for o in scene.objects]),
    "texture": lambda scene: presence(len(TEXTURES), [o.texture for o in scene.objects]),
    "count": lambda scene: np.int32(len(scene.objects) - 1),
    "background": lambda scene: np.int32(scene.background),
    "pair": lambda scene: presence(
        len(COLOURS) * len(SHAPES), [o.colour * len(SHAPES) + o.shape for o in scene.objects]
    ),
    "relation": lambda scene: direction(scene.objects),
}
