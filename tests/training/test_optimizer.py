"""A gradient is shortened to the limit, and only where it is longer; rules freeze parameters and scale their steps."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mdc_jax.config import ConfigError, parse, sections
from mdc_jax.training.optimizer import clip_by_global_norm, describe_rules, make_optimizer, without_frozen


@pytest.mark.parametrize("limit", [0.5, 5.0, 50.0])
def test_clipping_is_that_of_optax(limit: float) -> None:
    gradient = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([[4.0]])}
    clipped, _ = clip_by_global_norm(limit).update(gradient, clip_by_global_norm(limit).init(gradient))
    reference = optax.clip_by_global_norm(limit)
    expected, _ = reference.update(gradient, reference.init(gradient))
    for name in gradient:
        np.testing.assert_allclose(clipped[name], expected[name], rtol=1e-6)


def test_a_gradient_of_zero_stays() -> None:
    clipped, _ = clip_by_global_norm(1.0).update({"a": jnp.zeros(2)}, optax.EmptyState())
    np.testing.assert_array_equal(clipped["a"], [0.0, 0.0])


PARAMS = {
    "encoder": {"patch": {"kernel": jnp.full((64, 32), -0.5), "bias": jnp.full(32, -0.0)}},
    "decoder": {"head": {"kernel": jnp.ones((32, 64))}, "norm": {"scale": jnp.ones(32)}},
}
RULES = (("norm", 0.25), ("^encoder/", 0.0))


def steps(section: sections.Optimizer, params: dict, count: int = 3) -> tuple[dict, object]:
    optimizer = make_optimizer(section, optax.constant_schedule(section.lr))
    state = optimizer.init(params)
    for step in range(count):
        gradient = jax.tree.map(lambda x, scale=step + 1.0: scale + 0 * x, params)
        gradient = without_frozen(section.lr_multipliers, gradient)
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


@pytest.mark.parametrize("name", ["adamw", "adafactor"])
def test_frozen_parameters_stay_bit_for_bit_and_have_no_state(name: str) -> None:
    section = sections.Optimizer(name=name, lr=0.1, weight_decay=1e-3, lr_multipliers=RULES)
    params, state = steps(section, PARAMS)
    for before, after in zip(*(jax.tree.leaves(tree["encoder"]) for tree in (PARAMS, params)), strict=True):
        assert np.asarray(before).tobytes() == np.asarray(after).tobytes()
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)]
    assert paths and not any("encoder" in path for path in paths)


@pytest.mark.parametrize("name", ["adamw", "adafactor"])
def test_the_others_step_as_if_the_frozen_were_not_there_times_their_factor(name: str) -> None:
    section = sections.Optimizer(name=name, lr=0.1)
    alone, _ = steps(section, {"decoder": PARAMS["decoder"]}, 1)
    together, _ = steps(dataclasses.replace(section, lr_multipliers=RULES), PARAMS, 1)
    for part, factor in (("head", 1.0), ("norm", 0.25)):
        for before, one, other in zip(
            *(jax.tree.leaves(tree["decoder"][part]) for tree in (PARAMS, alone, together)), strict=True
        ):
            np.testing.assert_allclose(other - before, factor * (one - before), rtol=1e-5)


def test_rules_are_described_and_one_that_names_nothing_is_an_error() -> None:
    assert describe_rules(RULES, PARAMS).splitlines() == [
        "0.00 M parameters (encoder) are frozen",
        "0.00 M parameters (decoder) learn at 0.25 of the rate",
    ]
    with pytest.raises(ConfigError, match=r'"enkoder" is in no name.*encoder/patch/kernel'):
        without_frozen((("enkoder", 0.0),), PARAMS)
    for name in ("adamw", "adafactor"):
        optimizer = make_optimizer(sections.Optimizer(name=name, lr_multipliers=((".", 0.0),)), lambda _: 0.1)
        with pytest.raises(ConfigError, match="every parameter is frozen"):
            optimizer.init(PARAMS)


@pytest.mark.parametrize(
    ("rule", "message"), [(("(", 0.0), "regular expression"), (("encoder", -1.0), "0 .frozen. or more")]
)
def test_rules_that_cannot_be(rule: tuple[str, float], message: str) -> None:
    config = {"data": {"train": "scenes:train"}, "optimizer": {"lr_multipliers": (rule,)}}
    with pytest.raises(ConfigError, match=message):
        parse(config)
