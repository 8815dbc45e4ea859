"""FLOPs are those that XLA's program has; MFU is said where the peak is known, and only there."""

import math
import re

import jax
import numpy as np
import pytest

from mdc_jax import objectives
from mdc_jax.config import sections
from mdc_jax.objectives.base import Objective
from mdc_jax.training.accounting import Cost, describe, parameters, peak
from tests.objectives import tiny

BATCH, TOKENS = 2, 8  # as many rows as one chunk of the loss has at most, so that its loop runs once


def build(
    settings: sections.Objective, tokens: int = TOKENS, token_keep: float = 1.0, memory_keep: float = 1.0
) -> Objective:
    encoder = sections.Encoder(patch=4, width=32, depth=2, heads=2, mlp_dim=128, token_keep=token_keep)
    decoder = sections.Decoder(depth=2, width=48, mlp_dim=64, memory_keep=memory_keep)
    model = sections.Model(encoder=encoder, decoder=decoder, scan="off")
    return objectives.build(settings, model=model, image=sections.Image(size=16), vocab_size=300, max_tokens=tokens)


def dot_flops(text: str) -> float:
    """Of all matrix products in the text of a compiled program, each of which runs once."""
    shapes = {
        name: [int(size) for size in shape.split(",") if size]
        for name, shape in re.findall(r"%?([\w.\-]+) = \w+\[([\d,]*)\]", text)
    }
    total = 0.0
    for line in text.splitlines():
        found = re.search(
            r"%?([\w.\-]+) = .* dot\((?:\w+\[[^ ]* )?%?([\w.\-]+),.*lhs_contracting_dims={([\d,]+)}", line
        )
        if found:
            result, left, contracted = found.groups()
            total += 2 * math.prod(shapes[result]) * math.prod(shapes[left][int(i)] for i in contracted.split(","))
    return total


# All of which have a loss at every token, or none at tokens.
EVERYWHERE = {
    "masked_diffusion": sections.MaskedDiffusion(masks_per_caption=2, interval=(1.0, 1.0)),
    "masked_lm": sections.MaskedLM(ratio=1.0),
}


@pytest.mark.parametrize(
    ("name", "keep"),
    [*((name, {}) for name in sections.OBJECTIVES), ("cappa", {"token_keep": 0.5}), ("cappa", {"memory_keep": 0.5})],
    ids=str,
)
@pytest.mark.slow
def test_flops_are_those_of_the_compiled_step(name: str, keep: dict[str, float]) -> None:
    objective = build(EVERYWHERE.get(name) or tiny.section(name), **keep)
    batch = jax.tree.map(lambda x: x[:BATCH], tiny.batch(BATCH))
    text, length = batch["text"], batch["length"]
    batch |= {
        "image": jax.numpy.zeros((BATCH, 16, 16, 3), "uint8"),
        "text": jax.numpy.pad(text, ((0, 0), (0, 0), (0, TOKENS - tiny.TOKENS)), constant_values=3),
        "length": jax.numpy.full_like(length, TOKENS),
    }
    corrupted = objective.corrupt(batch, jax.random.key(0))
    thinned = objective.thin(corrupted, jax.random.key(1))
    params = objective.init(jax.random.key(0))
    grad = jax.jit(jax.value_and_grad(objective.loss, has_aux=True)).lower(params, thinned).compile()
    (_, metrics), _ = grad(params, thinned)
    predicted = metrics.get("predicted_tokens")
    if predicted is not None:
        assert predicted == TOKENS * objective.texts_per_caption
        predicted = float(predicted)
    flops = objective.flops(1, predicted)
    assert flops == objective.flops(1)
    assert flops["train"] == pytest.approx(dot_flops(grad.as_text()) / BATCH, rel=0.03)
    forward = jax.jit(objective.loss).lower(params, corrupted).compile().as_text()
    assert flops["forward"] == pytest.approx(dot_flops(forward) / BATCH, rel=0.03)


def test_tokens_without_a_loss_cost_no_output_layer() -> None:
    objective = build(sections.MaskedDiffusion())
    all_, half = (objective.flops(1, predicted)["forward"] for predicted in (TOKENS, TOKENS / 2))
    assert all_ - half == 2 * TOKENS / 2 * 48 * 300


@pytest.mark.parametrize("settings", [sections.MaskedDiffusion(), sections.Clip()], ids=lambda settings: settings.name)
def test_a_shorter_batch_costs_what_one_of_that_length_costs(settings) -> None:
    assert build(settings).flops(1, text_tokens=5) == build(settings, tokens=5).flops(1)
    assert build(settings).flops(1, text_tokens=TOKENS) == build(settings).flops(1)
    assert Cost(build(settings), 1, "cpu", 1).flops({"text_tokens": 5.0}) == build(settings, tokens=5).flops(1)["train"]


def test_peaks_are_found_by_the_kind_that_jax_gives() -> None:
    assert peak("NVIDIA H100 80GB HBM3") == 989e12
    assert peak("NVIDIA A100-SXM4-40GB") == 312e12
    assert peak("NVIDIA A10G") == 70e12 and peak("NVIDIA A10") == 125e12
    assert peak("NVIDIA H100 NVL") == peak("NVIDIA H200 NVL") == 835e12 and peak("NVIDIA H200") == 989e12
    assert peak("Tesla T4") is None  # has no bfloat16
    assert peak("NVIDIA A100-SXM4-40GB MIG 1g.5gb") is None  # a part of a device
    assert peak("TPU v5 lite") == 197e12 and peak("TPU v5") == 459e12 and peak("TPU v4") == 275e12
    assert peak("cpu") is None


def test_utilisation_is_the_share_of_the_peak_of_all_devices() -> None:
    objective = build(sections.MaskedDiffusion())
    metrics = {"predicted_tokens": 4.0}
    cost = Cost(objective, 1, "TPU v4", 8)
    speed = 0.4 * 8 * 275e12 / objective.flops(1, 4.0)["train"]
    assert cost.mfu(metrics, speed) == pytest.approx(0.4)
    assert "275 bfloat16 TFLOP/s" in cost.describe()
    frozen = Cost(objective, 1, "TPU v4", 8, frozen=True)
    assert frozen.mfu(metrics, speed) is None and "lr_multipliers spares is not counted" in frozen.describe()
    unknown = Cost(objective, 1, "cpu", 1)
    assert unknown.mfu(metrics, speed) is None
    assert 'MFU unknown: no peak is listed for "cpu"' in unknown.describe()


def test_parameters_are_counted() -> None:
    assert parameters({"a": jax.ShapeDtypeStruct((2, 3), "float32"), "b": jax.ShapeDtypeStruct((), "float32")}) == 7


def test_parameters_are_said_by_part_and_scalars_are_none() -> None:
    params = {
        "encoder": {"kernel": np.zeros((1000, 800))},
        "text_encoder": np.zeros(500_000),
        "log_scale": np.zeros(()),
    }
    assert describe(params) == "1.30 M parameters (encoder 0.80, text_encoder 0.50)"
