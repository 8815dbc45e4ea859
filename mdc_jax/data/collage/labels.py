"""What linear probes predict of a collage. No label depends on how a caption words it."""

from collections.abc import Mapping

import numpy as np

from mdc_jax.data.collage.layout import COUNTS, FAMILY, FEWEST, Collage
from mdc_jax.data.scenes.labels import DIRECTIONS, direction, presence
from mdc_jax.data.sources.base import Family


def families(kinds: tuple[str, ...]) -> dict[str, Family]:
    """The label families, given the kinds of things."""
    return {
        FAMILY: Family("presence", kinds),
        "count": Family("class", COUNTS),
        "relation": Family("class", DIRECTIONS, bound=True),
    }


def labels(collage: Collage, kinds: int) -> Mapping[str, np.ndarray]:
    """The labels of a collage, by family."""
    return {
        FAMILY: presence(kinds, [item.kind for item in collage.items]),
        "count": np.int32(len(collage.items) - FEWEST),
        "relation": direction(collage.items),
    }
