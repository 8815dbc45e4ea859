"""The benchmark of decoding counts what it says, and both ways write the same caption."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdc_jax import command
from mdc_jax.benchmarks import decoding
from mdc_jax.config import ConfigError, parse, sections
from tests.objectives import tiny

ROOT = pathlib.Path(__file__).parents[2]


def local(objective="masked_diffusion"):
    return parse(command.load(str(ROOT / "configs" / f"scenes.py:objective={objective},runlocal")))


def test_the_plain_way_writes_the_same_captions():
    objective = tiny.build(sections.MaskedDiffusion())
    params, images = tiny.trained(objective), tiny.batch(3)["image"]
    features = objective.encode(params, images)
    length = jnp.full(3, tiny.TOKENS)
    ours = jax.jit(lambda: objective.generate(params, features, jax.random.key(0), length=length).tokens)()
    masked = jnp.arange(tiny.TOKENS)[None] < length[:, None] - 1
    tokens = jnp.where(masked, objective.mask_id, 1)
    # The plain way does not forbid EOS and PAD, which a trained model has learned.
    params["decoder"]["head"]["bias"] = params["decoder"]["head"]["bias"].at[:2].set(-1e9)
    step = jax.jit(lambda *arguments: decoding.plain_step(objective, params, images, *arguments))
    for _ in range(tiny.TOKENS - 1):
        tokens, masked = step(tokens, masked)
    np.testing.assert_array_equal(tokens, ours)


def test_flops_are_the_sum_over_steps():
    objective = tiny.build(sections.MaskedDiffusion())
    found = decoding.flops(objective)
    words = tiny.TOKENS - 1
    assert found["plain"] == words * objective.flops()["forward"]
    once = objective.flops(1, 0)["forward"]
    text_only = (objective.flops(2, 0)["forward"] - once) * words
    head = sum(objective.flops(1, n)["forward"] - once for n in range(1, words + 1))
    first = once - text_only / words
    assert found["ours"] == pytest.approx(first + text_only + head)


@pytest.mark.slow
def test_rows():
    config = dataclasses.replace(local(), data=dataclasses.replace(local().data, max_tokens=6))
    found = decoding.benchmark(config, 300, 2, 1)
    assert found["plain"]["speed_up"] == 1
    ours = found["ours"]
    assert ours["share_of_bound"] == pytest.approx(ours["speed_up"] / ours["flop_ratio"])
    assert "captions/s" in decoding.table(found)


def test_another_objective():
    with pytest.raises(ConfigError, match='"autoregressive": this benchmark is of masked decoding'):
        decoding.benchmark(local("autoregressive"), 300, 2, 1)
