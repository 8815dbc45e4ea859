"""The chain has the matrix products that a step is counted for, and none is optimised away."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdc_jax import command
from mdc_jax.benchmarks import matrix_products, step
from mdc_jax.config import parse, sections
from mdc_jax.models import layers
from tests.objectives import tiny

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


@pytest.mark.parametrize(
    ("section", "masked"),
    [
        (sections.MaskedDiffusion(), False),
        (sections.MaskedDiffusion(padding="known"), True),
        (sections.MaskedLM(), False),
        (sections.Parallel(), False),
        (sections.Autoregressive(), True),
        (sections.CapPa(), True),
    ],
)
def test_attention_is_the_kernel_that_the_model_uses(monkeypatch, section, masked):
    objective, asked = tiny.build(section), []
    for module in (matrix_products, layers):
        monkeypatch.setattr(module, "attention_implementation", lambda *_, masked: asked.append(masked) or "xla")
    sizes = {"batch_size": 2, "captions_per_image": 1, "predicted": 3, "dtype": jnp.float32}
    arguments = matrix_products.make_arguments(objective, **sizes)
    jax.eval_shape(functools.partial(matrix_products.gradients, objective), *arguments)
    assert asked == [False, False, masked, False]  # two layers of the encoder, and one of the decoder
    asked.clear()

    def loss(params, batch, key):  # not that of `tiny`, which may be traced already
        return type(objective).loss(objective, params, objective.corrupt(batch, key))

    jax.eval_shape(loss, jax.eval_shape(objective.init, jax.random.key(0)), tiny.batch(2), jax.random.key(0))
    assert set(asked) == {False, masked}
