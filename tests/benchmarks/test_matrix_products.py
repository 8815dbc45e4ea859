"""The chain has the matrix products that a step is counted for, and none is optimised away."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdc_jax import command
from mdc_jax.benchmarks import matrix_products, step
from mdc_jax.config import parse

ROOT = pathlib.Path(__file__).parents[2]


def test_its_flops_are_those_of_the_accounting():
    config = parse(command.load(str(ROOT / "configs" / "vitb_recap.py:runlocal")))
    objective = step.objective_of(config, 1000)
    arguments = matrix_products.make_arguments(
        objective, batch_size=2, captions_per_image=1, predicted=10, dtype=jnp.float32
    )
    chain = jax.jit(functools.partial(matrix_products.gradients, objective))
    counted = chain.lower(*arguments).compile().cost_analysis()["flops"]
    assert counted / 2 == pytest.approx(objective.flops(1, 5)["train"], rel=0.03)
    for gradient in jax.tree.leaves(chain(*arguments)):
        assert np.isfinite(gradient).all() and np.any(gradient)
