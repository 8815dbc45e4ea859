"""The loss is the likelihood of the labels, computed here in another way."""

import functools

import jax
import numpy as np
import pytest

from mdc_jax import objectives
from mdc_jax.config import sections
from tests.objectives import tiny


def test_the_loss_is_the_negative_log_likelihood_of_labels_that_apply() -> None:
    objective = tiny.build(tiny.section("supervised"))
    params, batch = tiny.trained(objective), tiny.batch(6)
    batch["label/kind"][:3] = [-1, 0, 2]
    batch["_mask"][5] = False
    tokens = np.asarray(objective.encode(params, batch["image"])["tokens"], np.float64)
    read = {"things": tokens.mean(1), "kind": tokens.reshape(6, -1)}  # kind is bound
    nats = {}
    for family, head in params["heads"].items():
        logits = read[family] @ np.asarray(head["kernel"], np.float64) + np.asarray(head["bias"])[None]
        label = batch[f"label/{family}"]
        if family == "things":
            probability = 1 / (1 + np.exp(-logits))
            nats[family] = -np.log(np.where(label, probability, 1 - probability)).sum(1)
        else:
            probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            nats[family] = np.where(label >= 0, -np.log(probability[np.arange(6), label]), 0)
    loss, metrics = objective.loss(params, objective.corrupt(batch, jax.random.key(0)))
    for family, each in nats.items():
        np.testing.assert_allclose(metrics[family], each[:5].mean(), rtol=1e-4)
    np.testing.assert_allclose(loss, sum(each[:5].mean() for each in nats.values()), rtol=1e-4)


def test_bound_families_need_all_tokens() -> None:
    model = sections.Model(sections.Encoder(patch=4, width=16, depth=1, heads=2, mlp_dim=32, token_keep=0.5))
    build = functools.partial(
        objectives.build,
        model=model,
        image=sections.Image(size=tiny.SIZE),
        vocab_size=tiny.VOCAB,
        max_tokens=tiny.TOKENS,
    )
    with pytest.raises(ValueError, match=r"set model\.encoder\.token_keep=1"):
        build(tiny.section("supervised"))
    build(sections.Supervised(families=tiny.FAMILIES[:1]))


def test_without_families_there_is_nothing_to_learn() -> None:
    with pytest.raises(ValueError, match=r"objective\.families is empty"):
        tiny.build(sections.Supervised())
