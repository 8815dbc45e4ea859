"""Parameters as a flat dictionary ("encoder/patch/kernel" → array) and as a tree, on the host and on devices."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Leaves by the path that leads to them; arrays on devices, whole on each, come to the host."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            leaves |= flat(value, f"{prefix}{key}/")
        else:
            leaves[prefix + key] = np.asarray(value) if isinstance(value, jax.Array) else value
    return leaves


def nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flat`."""
    tree: dict[str, Any] = {}
    for name, leaf in leaves.items():
        *parents, last = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaf
    return tree


def placed(tree: Any, places: Any) -> Any:
    """Arrays of the host, the same on every one, onto devices; each device takes its own part."""

    def place(array: np.ndarray, sharding: jax.sharding.Sharding) -> jax.Array:
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(place, tree, places)
