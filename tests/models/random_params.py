"""Parameters without initialisers, which take seconds to compile."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def random_params(init: Any, *inputs: Any, seed: int = 0) -> Any:
    """Draws parameters of the shapes that `init(key, *inputs)` returns: scales about 1, none of the others 0."""
    rng = np.random.default_rng(seed)

    def draw(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        noise = rng.normal(size=leaf.shape).astype(np.float32)
        match path[-1].key:
            case "kernel":
                return noise / np.float32(leaf.shape[-2] ** 0.5)
            case "scale":
                return 1 + np.float32(0.1) * noise
            case _:
                return np.float32(0.5) * noise

    params = jax.tree_util.tree_map_with_path(draw, jax.eval_shape(init, jax.random.key(0), *inputs))
    return jax.tree.map(jnp.asarray, params)
