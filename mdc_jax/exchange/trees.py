"""Parameters by name ("encoder/patch/kernel"), and as a tree; on the host, and on devices."""

import hashlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np


def name_of(path: jax.tree_util.KeyPath) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def flat(tree: Any) -> dict[str, Any]:
    """Leaves by name."""
    return {name_of(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def on_host(tree: Any) -> dict[str, np.ndarray]:
    """Arrays by name, from devices that have each one whole."""
    return {name: np.asarray(leaf) for name, leaf in flat(tree).items()}


def sha256(leaves: Mapping[str, np.ndarray]) -> str:
    """A hash of names, shapes and values, whatever the order."""
    digest = hashlib.sha256()
    for name in sorted(leaves):
        digest.update(f"{name} {leaves[name].dtype} {leaves[name].shape}\n".encode())
        digest.update(np.ascontiguousarray(leaves[name]).data)
    return digest.hexdigest()


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


def placed(array: np.ndarray, sharding: jax.sharding.Sharding) -> jax.Array:
    """An array of the host, the same on every one, onto devices; each takes its own part."""
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])
