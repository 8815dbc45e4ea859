"""From a config to its objective, with errors that name the config."""

from collections.abc import Callable

import jax
import numpy as np

from mdc_jax import objectives
from mdc_jax.config import ConfigError, sections
from mdc_jax.objectives.base import Objective
from mdc_jax.training import sharding


def objective(
    config: sections.Config,
    vocab_size: int,
    mesh: jax.sharding.Mesh | None = None,
    word_starts: Callable[[], np.ndarray] | None = None,
) -> Objective:
    """The objective of a run, on the devices of `mesh`; raises ConfigError for sizes that do not fit each other.

    Without a mesh one device has all. `word_starts` is the tokenizer's; without it an objective that masks words takes
    every token for one, which costs as much.
    """
    try:
        found = objectives.build(
            config.objective,
            model=config.model,
            image=config.image,
            vocab_size=vocab_size,
            max_tokens=config.data.max_tokens,
            split=None if mesh is None else sharding.split(mesh),
            word_starts=word_starts,
        )
        jax.eval_shape(found.init, jax.random.key(0))
    except ValueError as error:
        raise ConfigError(f"model: {error}") from error
    return found
