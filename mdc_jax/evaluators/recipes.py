"""The kinds of probes by name."""

from collections.abc import Callable, Mapping

from mdc_jax.evaluators.attentive import Attentive
from mdc_jax.evaluators.fitting import Recipe
from mdc_jax.evaluators.gradient_probes import adamw, sgd
from mdc_jax.evaluators.knn import NearestNeighbours
from mdc_jax.evaluators.logistic import Logistic
from mdc_jax.evaluators.ridge import Ridge

LOGISTIC, ATTENTIVE = "logistic", "attentive"
RECIPES: Mapping[str, Callable[[], Recipe]] = {
    LOGISTIC: Logistic,
    "ridge": Ridge,
    "knn": NearestNeighbours,
    "adamw": adamw,
    "sgd": sgd,
    ATTENTIVE: Attentive,  # on tokens; the others on one vector an image
}


def build(name: str, l2_values: int) -> Recipe:
    """The recipe `name`; `l2_values` is that of `Logistic`."""
    return Logistic(l2_values) if name == LOGISTIC else RECIPES[name]()
