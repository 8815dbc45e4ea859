"""What can be said of a caption by a masked model, by name.

Shapes: B images, C captions of an image, L tokens.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax

from mdc_jax.scoring.elbo import elbo, training_interval
from mdc_jax.scoring.enumeration import one_pass, pseudo_log_likelihood
from mdc_jax.scoring.greedy_reveal import greedy_reveal
from mdc_jax.scoring.score import Score


class Reading(NamedTuple):
    """Captions as an estimator sees them: what can be masked, and what the model then says of it."""

    predict: Callable[[jax.Array], tuple[jax.Array, jax.Array]]  # see `greedy_reveal`
    maskable: jax.Array  # bool[B, C, L]
    positions: jax.Array  # see `mdc_jax.scoring.alignment.aligned_positions`

    def nll(self, masked: jax.Array) -> jax.Array:
        """-log p of the masked tokens given the rest, f32[B, C, L], 0 elsewhere."""
        return self.predict(masked)[0]


Estimator = Callable[[Reading, jax.Array], Score]  # of a reading and a key


def masked_estimators(interval: tuple[float, float]) -> Mapping[str, Estimator]:
    """`elbo`, a bound; `training_interval`, where that is not [0, 1], `one_pass` and `pseudo_log_likelihood`,
    heuristics; `greedy_reveal`, exact for the order of its name."""
    found: dict[str, Estimator] = {
        "elbo": lambda read, key: elbo(read.nll, read.maskable, key, positions=read.positions),
        "one_pass": lambda read, _: one_pass(read.nll, read.maskable),
        "pseudo_log_likelihood": lambda read, _: pseudo_log_likelihood(read.nll, read.maskable),
        "greedy_reveal": lambda read, _: greedy_reveal(read.predict, read.maskable),
    }
    if interval != (0.0, 1.0):  # where it is not the bound
        found["training_interval"] = lambda read, key: training_interval(
            read.nll, read.maskable, key, interval=interval, positions=read.positions
        )
    return found
