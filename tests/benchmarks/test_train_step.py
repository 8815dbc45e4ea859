"""The benchmarks of the step measure what they say: the same loss, fewer FLOPs, less memory."""

import dataclasses
import pathlib
import types

import jax
import numpy as np
import pytest

from mdc_jax import command
from mdc_jax.benchmarks import scaling, step, train_step
from mdc_jax.config import ConfigError, parse, sections
from mdc_jax.ops import cross_entropy
from tests.ops.test_cross_entropy import arguments

ROOT = pathlib.Path(__file__).parents[2]


def tiny() -> sections.Config:
    config = parse(command.load(str(ROOT / "configs" / "scenes.py:runlocal")))
    data = dataclasses.replace(config.data, batch_size=16)
    return dataclasses.replace(config, data=data, mesh=sections.Mesh(data=8))


def test_the_plain_loss_is_the_same_loss():
    args = arguments()
    for plain, ours in zip(
        jax.tree.leaves(train_step.plain_loss(*args)),
        jax.tree.leaves(cross_entropy.weighted_cross_entropy(*args)),
        strict=True,
    ):
        np.testing.assert_allclose(plain, ours, rtol=1e-5)


@pytest.mark.slow
def test_rows_in_one_run():
    rows = ["plain", "masked tokens only", "bare matrix products"]
    found = train_step.benchmark(tiny(), 1000, 9, 1, rows)
    plain, ours, bare = (found[row] for row in rows)
    objective = step.objective_of(tiny(), 1000)
    assert plain["flops"] == objective.flops(1)["train"]
    assert objective.flops(1, 9 / 2)["train"] < ours["flops"] < objective.flops(1, 9)["train"]
    assert ours["flop_ratio"] == pytest.approx(plain["flops"] / ours["flops"]) and ours["flop_ratio"] > 1
    assert ours["share_of_bound"] == pytest.approx(plain["seconds"] / ours["seconds"] / ours["flop_ratio"])
    assert bare["flops"] == ours["flops"]
    assert ours["share_of_products"] == pytest.approx(ours["images_per_second"] / bare["images_per_second"])
    assert "masked tokens only" in train_step.table(found)


def test_seconds_and_flops_are_those_of_one_step(monkeypatch):
    now, seconds, tokens = [0.0], iter([9.0, 3.0, 2.0, 4.0]), iter([1, 5, 7, 8])
    monkeypatch.setattr(step.time, "perf_counter", lambda: now[0])

    def run(state, batch):
        now[0] += next(seconds)
        return state, {"predicted_tokens": np.float32(next(tokens))}

    fake = types.SimpleNamespace(run=run, batch=None, flops=lambda metrics: 100 * metrics["predicted_tokens"])
    (found,) = step.measure({"": fake}, 0, repeats=3).values()
    assert (found["seconds"], found["predicted_tokens"], found["flops"]) == (2.0, 7.0, 700.0)


def test_rows_are_held_against_the_bare_products_by_flops_and_in_one_dtype(monkeypatch):
    names = ["masked tokens only", "... half of the patches", "... bfloat16"]
    cost = types.SimpleNamespace(objective=None, captions_per_image=1, device_kind="abacus", devices=1)
    fake = types.SimpleNamespace(
        cost=cost, batch_size=16, compile_seconds=1.0, peak_bytes=3, temporary_bytes=2, gradient_bytes=1
    )
    measured = {"seconds": 2.0, "processor_seconds": 2.0, "flops": 100.0, "predicted_tokens": 5.0}
    found = dict(zip(names, (measured, {**measured, "seconds": 1.0, "flops": 60.0}, measured), strict=True))
    monkeypatch.setattr(step, "prepare", lambda *_, **__: (fake, lambda: None))
    monkeypatch.setattr(step, "measure", lambda *_: found)
    monkeypatch.setattr(train_step.matrix_products, "seconds", lambda *_, **__: 0.5)
    rows = train_step.benchmark(step.resolved(tiny()), 1000, 9, 1, [*names, "bare matrix products"])
    ours, half, other = (rows[name] for name in names)
    assert ours["share_of_products"] == pytest.approx(0.25)
    assert half["share_of_products"] == pytest.approx(0.5 * 0.6)
    assert "share_of_products" not in other


def test_what_is_measured_is_said_by_its_name():
    model = step.resolved(dataclasses.replace(tiny(), model=sections.Model())).model
    assert (model.dtype, model.scan, model.remat) == ("float32", "on", "off")
    on = dataclasses.replace(tiny(), model=sections.Model(dtype="bfloat16", scan="off", remat="on"))
    assert step.resolved(on) == on


def test_a_row_that_does_not_exist():
    with pytest.raises(ConfigError, match=r'--rows: no row "fast"; there are plain, masked tokens only'):
        train_step.benchmark(tiny(), 1000, 9, 1, ["fast"])
    with pytest.raises(ConfigError, match='"bare matrix products" are those of "masked tokens only": name that row'):
        train_step.benchmark(tiny(), 1000, 9, 1, ["plain", "bare matrix products"])


def test_what_cannot_be_measured_is_refused():
    assert step.vocabularies(None, tiny()) == [tiny().tokenizer.vocab_size]
    assert step.vocabularies(["32000", "4"], tiny()) == [32_000, 4]
    for wrong in (["abc"], ["-5"], ["32000", "3"]):
        with pytest.raises(ConfigError, match="give numbers above 3, as in --vocabulary=32000"):
            step.vocabularies(wrong, tiny())
    with pytest.raises(ConfigError, match='objective="clip" has no text decoder'):
        train_step.benchmark(dataclasses.replace(tiny(), objective=sections.Clip()), 1000, 9, 1, None)
    frozen = dataclasses.replace(tiny(), optimizer=sections.Optimizer(lr_multipliers=(("^encoder/", 0.0),)))
    with pytest.raises(ConfigError, match="lr_multipliers freezes"):
        train_step.benchmark(frozen, 1000, 9, 1, None)
    odd = dataclasses.replace(tiny(), data=dataclasses.replace(tiny().data, batch_size=9))
    with pytest.raises(ConfigError, match=r"batch_size=9 does not fit the mesh.*nearest that works: 8"):
        train_step.benchmark(odd, 1000, 9, 1, None)
    with pytest.raises(ConfigError, match=r"image size 48 cannot be: data\.batch_size=9 does not fit the mesh"):
        scaling.checked(odd, ["1"])


def test_scaling_changes_one_thing_at_a_time():
    config = tiny()
    changed = [(name, value) for name, value, _, _ in scaling.settings(config, [1.0, 2.0])]
    assert changed == [
        ("batch size", 16),
        ("batch size", 32),
        ("image size", 48),
        ("image size", 96),
        ("caption tokens", 18),
        ("caption tokens", 36),
        ("vocabulary", 256),
        ("vocabulary", 512),
    ]
    same = [other for name, value, other, _ in scaling.settings(config, [1.0])]
    assert all(other == config for other in same)


def test_scaling_measures_what_patches_and_mesh_divide_and_refuses_the_rest_before():
    found = {(name, value) for name, value, _, _ in scaling.checked(tiny(), ["0.4", "0.7"])}
    assert found >= {("batch size", 8), ("image size", 16), ("image size", 32), ("caption tokens", 7)}
    for factors, word in ((["1", "0.05"], "caption tokens 1 cannot be"), (["1", "x"], "give numbers above 0")):
        with pytest.raises(ConfigError, match=f"--factors={','.join(factors)}: {word}"):
            scaling.checked(tiny(), factors)
