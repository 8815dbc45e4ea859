"""What a tiny comparison is made of: a run of seconds, as a base config; and the comparison itself."""

import ml_collections

from mdc_jax.comparison import recipe
from mdc_jax.config import defaults, evaluator, parse_argument
from tests.end_to_end import tiny

FILE = "tests/comparison/tiny.py"


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """A comparison where a number of steps is given as `compare`, else the base config of its runs."""
    arg = parse_argument(argument, objective="masked_diffusion", steps=4, compare=0)
    return comparison(arg.compare) if arg.compare else _base(arg.objective, arg.steps)


def _base(objective: str, steps: int) -> ml_collections.ConfigDict:
    config = tiny.get_config()
    with config.unlocked():
        config.objective = defaults(objective).objective
    config.duration = f"{steps} steps"
    config.checkpoint.every = "2 steps"
    return config


def comparison(
    steps: int, names: tuple[str, ...] = ("masked_diffusion", "autoregressive")
) -> ml_collections.ConfigDict:
    """At equal steps, one seed, a held-out loss on the way and a probe at the end."""
    few = {"train_examples": 32, "validation_examples": 16, "test_examples": 16, "batch_size": 16}
    return recipe.comparison(
        base=FILE,
        entries=recipe.entries_of(names),
        steps=steps,
        evaluators={
            "held_out": evaluator("held_out_loss", every="2 steps", examples=16, batch_size=8),
            "probe": evaluator("linear_probe", families=("count",), baselines=False, **few),
        },
    )
