"""The estimate is near what the compiler plans, and decides only where the memory is known."""

import dataclasses
import pathlib
import types

import jax
import pytest

from mdc_jax import command, objectives
from mdc_jax.config import parse, sections
from mdc_jax.training import loop, memory, sharding
from mdc_jax.training.accounting import parameters

ROOT = pathlib.Path(__file__).parents[2]
VOCAB = 100


def config(remat: str = "auto", **settings) -> sections.Config:
    encoder = sections.Encoder(patch=8, width=48, depth=4, heads=3, mlp_dim=192)
    data = sections.Data(train="fake:train", batch_size=32, max_tokens=8)
    model = sections.Model(encoder, sections.Decoder(depth=1), remat=remat)
    return sections.Config(image=sections.Image(size=64), data=data, model=model, **settings)


def build(remat: str, scan: str = "on") -> objectives.Objective:
    settings = config(remat)
    settings = dataclasses.replace(settings, model=dataclasses.replace(settings.model, scan=scan))
    return objectives.build(
        settings.objective, model=settings.model, image=settings.image, vocab_size=VOCAB, max_tokens=8
    )


@pytest.mark.slow
def test_what_the_backward_pass_keeps_is_what_the_compiler_plans():
    objective, batch = build("off"), memory.batch_shapes(config(), 32)

    def gradient(params, batch, key):
        return objective.gradient(params, objective.corrupt(batch, key))

    params = jax.eval_shape(objective.init, jax.random.key(0))
    planned = jax.jit(gradient).lower(params, batch, jax.random.key(0)).compile().memory_analysis()
    assert 1 / 1.5 < memory.kept_bytes(objective, batch) / planned.temp_size_in_bytes < 1.5


@pytest.mark.slow
def test_activations_grow_with_the_batch_and_remat_keeps_what_enters_the_layers():
    small, large = (memory.kept_bytes(build("off"), memory.batch_shapes(config(), rows)) for rows in (16, 32))
    assert large == pytest.approx(2 * small, rel=0.02)
    inputs = memory.kept_bytes(build("on"), memory.batch_shapes(config(), 32))
    assert 4 * 32 * 64 * 48 * 4 < inputs < large / 4  # layers, rows, tokens, width, bytes


@pytest.mark.slow
def test_layers_in_a_loop_keep_what_is_costly_and_compute_the_rest_again():
    batch = memory.batch_shapes(config(), 32)
    in_a_loop, unrolled = (
        memory.kept_bytes(build("off", scan=scan), batch) / (4 * 32 * 64 * 48 * 4)  # layers, rows, tokens, width, bytes
        for scan in ("on", "off")
    )
    # What enters a layer, queries, keys, values, and what attention, its output layer and both of the MLP give: 11.
    assert 11 < in_a_loop < 13.5
    assert unrolled > 2 * in_a_loop


@pytest.mark.slow
def test_unrolled_layers_take_what_the_compiler_of_a_gpu_plans():
    """Of B/16 with 128 images, as the table of benchmarks/README.md has it."""
    vitb = command.load("configs/vitb_recap.py")
    vitb.data.batch_size, vitb.model.dtype, vitb.model.scan = 128, "bfloat16", "off"
    one = sharding.make_mesh(sections.Mesh(), jax.devices()[:1])
    without, _ = memory.estimate(parse(vitb), vitb.tokenizer.vocab_size, one)
    assert without == pytest.approx(14.6e9, rel=0.1)


@pytest.mark.slow
def test_remat_is_on_where_a_step_would_not_fit(monkeypatch):
    mesh = sharding.make_mesh(sections.Mesh())
    without, with_ = memory.estimate(config(), VOCAB, mesh)
    assert without > with_
    for limit, choice in ((without / 0.89, "off"), (without / 0.91, "on")):
        monkeypatch.setattr(memory, "estimate", lambda *_: (without, with_))
        monkeypatch.setattr(memory, "capacity", lambda _, limit=limit: limit)
        decided, why = memory.with_remat(config(), VOCAB, mesh)
        assert decided.model.remat == choice and why.startswith(f"remat {choice}: ")
        monkeypatch.undo()


class Decided(Exception):
    """A run has got as far as its first step."""


@pytest.mark.parametrize("name", sections.OBJECTIVES)
def test_a_run_of_every_objective_decides_where_the_memory_is_known(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    built, build = [], loop.build.objective

    def decided(_: object) -> None:
        raise Decided

    monkeypatch.setattr(memory, "capacity", lambda _: 1e4)  # bytes: less than the state
    monkeypatch.setattr(loop.build, "objective", lambda config, *a: built.append(config) or build(config, *a))
    monkeypatch.setattr(loop._Run, "_state_and_step", decided)
    run = parse(command.load(str(ROOT / "tests" / "end_to_end" / "tiny.py")))
    objective = sections.OBJECTIVES[name]()  # labels are those of the data
    with pytest.raises(Decided):
        loop.train(dataclasses.replace(run, objective=objective, evaluators={}), tmp_path)
    assert run.model.remat == "auto" and built[-1].model.remat == "on"


def test_accumulation_holds_the_gradients_of_a_micro_batch_beside_their_sum(monkeypatch):
    monkeypatch.setattr(memory, "kept_bytes", lambda *_: 0)
    mesh = sharding.make_mesh(sections.Mesh())
    one, four = (
        memory.estimate(config(optimizer=sections.Optimizer(accumulation=count)), VOCAB, mesh)[0] for count in (1, 4)
    )
    assert four - one == 4 * parameters(jax.eval_shape(build("off").init, jax.random.key(0)))


def test_the_gradient_of_the_output_layer_is_counted_once():
    mesh = sharding.make_mesh(sections.Mesh())
    few, many = (memory.estimate(config(), vocab_size, mesh)[0] for vocab_size in (VOCAB, 50_000))
    # Embedding, kernel and bias; each with two moments and a gradient.
    assert many - few == 4 * 4 * (50_000 - VOCAB) * (48 + 48 + 1)


def test_of_a_frozen_encoder_there_are_parameters_and_nothing_else():
    mesh = sharding.make_mesh(sections.Mesh())
    small = config(optimizer=sections.Optimizer(lr_multipliers=(("^encoder/", 0.0),)))
    encoder = dataclasses.replace(small.model.encoder, depth=8)
    large = dataclasses.replace(small, model=dataclasses.replace(small.model, encoder=encoder))
    more = memory.estimate(large, VOCAB, mesh)[0] - memory.estimate(small, VOCAB, mesh)[0]
    params = jax.eval_shape(build("off").init, jax.random.key(0))
    assert more == 4 * parameters(params["encoder"]["blocks"])  # 4 bytes a number; 4 more layers, as many again


def test_remat_is_off_where_the_memory_is_unknown_and_what_is_given_where_it_is_given():
    mesh = sharding.make_mesh(sections.Mesh())
    decided, why = memory.with_remat(config(), VOCAB, mesh)
    assert decided.model.remat == "off" and "not known" in why
    assert memory.with_remat(config("on"), VOCAB, mesh) == (config("on"), "")


def test_the_capacity_is_what_a_device_says_and_else_what_the_compiler_of_its_kind_says():
    def says_nothing():
        raise jax.errors.JaxRuntimeError("MemoryStats is only supported for addressable devices")

    real = types.SimpleNamespace(memory_stats=lambda: {"bytes_limit": 7}, device_kind="TPU v5 lite")
    planned = types.SimpleNamespace(memory_stats=says_nothing, device_kind="TPU v5 lite")
    assert memory.capacity(real) == 7
    assert memory.capacity(planned) == 15.75 * 2**30
    assert memory.capacity(jax.devices()[0]) is None


def test_older_configs_say_true_and_false():
    for old, new in ((True, "on"), (False, "off")):
        assert parse({"data": {"train": "fake:train"}, "model": {"remat": old}}).model.remat == new
