import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdc_jax.config import sections
from mdc_jax.models import text_encoder
from mdc_jax.objectives import contrastive
from mdc_jax.objectives.base import TokenCounts
from tests.objectives import tiny

SETTINGS = {"clip": sections.Clip(), "siglip": sections.SigLip()}
each = pytest.mark.parametrize("name", SETTINGS)


def loss_by_hand(name, images, texts, params):
    """The plain loss over all pairs, as in the papers."""
    logits = np.exp(float(params["log_scale"])) * images @ texts.T
    if name == "siglip":
        signs = 2 * np.eye(len(images)) - 1
        return np.log1p(np.exp(-signs * (logits + float(params["bias"])))).sum() / len(images)
    logp = [x - np.log(np.exp(x).sum(1, keepdims=True)) for x in (logits, logits.T)]
    return -np.mean([np.diag(x) for x in logp])


def embeddings(objective, params, batch):
    """Through the parts of the model, without the objective's own loss."""
    pooled = objective.encode(params, batch["image"])["pooled"] @ params["projection"]["image"]["kernel"]
    encode = jax.jit(objective.text_encoder.apply)
    encoded = encode({"params": params["text_encoder"]}, batch["text"][:, 0], batch["length"][:, 0])
    encoded = encoded @ params["projection"]["text"]["kernel"]
    return (np.asarray(x / jnp.linalg.norm(x, axis=1, keepdims=True), np.float64) for x in (pooled, encoded))


def take(batch, rows):
    return {key: value[rows] for key, value in batch.items()}


@each
def test_the_loss_is_the_papers_and_unreadable_rows_and_missing_captions_are_not_there(name):
    objective = tiny.build(SETTINGS[name])
    params, batch = tiny.trained(objective), tiny.batch(8)
    batch["_mask"][2], batch["length"][5] = False, 0
    kept = take(batch, [0, 1, 3, 4, 6, 7])
    loss, metrics = objective.loss(params, objective.corrupt(batch, jax.random.key(0)))
    images, texts = embeddings(objective, params, kept)
    np.testing.assert_allclose(loss, loss_by_hand(name, images, texts, params), rtol=1e-4)
    np.testing.assert_allclose(metrics["accuracy"], np.mean((images @ texts.T).argmax(1) == np.arange(6)), rtol=1e-5)
    nothing = objective.loss(params, objective.corrupt({**batch, "_mask": np.zeros(8, bool)}, jax.random.key(0)))
    assert nothing[0] == 0


def test_initial_scalars_are_the_papers():
    clip, siglip = (tiny.build(settings).initial for settings in SETTINGS.values())
    assert clip["log_scale"] == pytest.approx(math.log(1 / 0.07))
    assert (siglip["log_scale"], siglip["bias"]) == (pytest.approx(math.log(10)), -10)


def test_clips_scale_is_at_most_100_and_can_come_back():
    objective = tiny.build(SETTINGS["clip"])
    params, batch = tiny.trained(objective), tiny.batch(8)
    corrupted = objective.corrupt(batch, jax.random.key(0))

    @jax.jit
    def loss(log_scale):
        value, metrics = objective.loss({**params, "log_scale": log_scale}, corrupted)
        return value, metrics["log_scale"]

    find = jax.value_and_grad(loss, has_aux=True)
    ((at, logged), slope), ((above, logged_above), slope_above) = (
        find(jnp.float32(math.log(scale))) for scale in (100, 300)
    )
    np.testing.assert_allclose((above, slope_above), (at, slope), rtol=1e-4)
    assert abs(slope_above) > 0
    np.testing.assert_allclose((logged, logged_above), math.log(100), rtol=1e-6)  # what is used


@each
def test_duplicates_are_counted_by_text_up_to_its_end_and_change_what_the_setting_says(name):
    batch = tiny.batch(8)
    for copy, row in ((4, 0), (5, 0), (7, 1)):
        batch["text"][copy], batch["length"][copy] = batch["text"][row], batch["length"][row]
    batch["text"][4][0, batch["length"][4, 0] :] = 9  # behind the end
    batch["_mask"][7] = False  # its original is no duplicate then
    losses = {}
    for duplicates in ("left", "masked", "positive"):
        objective = tiny.build(dataclasses.replace(SETTINGS[name], duplicates=duplicates))
        params = tiny.trained(objective)
        loss, metrics = objective.loss(params, objective.corrupt(batch, jax.random.key(0)))
        losses[duplicates] = float(loss)
        assert metrics["duplicates"] == 3
    assert losses["masked"] < losses["left"]
    # In a softmax, as many equal texts as images: which of them is whose makes no difference to the sum.
    assert (losses["positive"] == pytest.approx(losses["left"], rel=1e-5)) == (name == "clip")
    assert losses["positive"] != pytest.approx(losses["masked"], rel=1e-5)


@each
def test_one_caption_of_an_image_is_read_and_never_a_missing_one(name):
    objective = tiny.build(SETTINGS[name])
    batch = tiny.batch(3000, captions=3)
    batch["length"][:, 1] = 0
    corrupted = objective.corrupt(batch, jax.random.key(0))
    chosen = (np.asarray(corrupted["text"])[:, None] == batch["text"]).all(-1)
    assert (chosen[:, 0] | chosen[:, 2]).all()
    assert abs(chosen[:, 0].mean() - 0.5) < 0.1  # some captions are equal
    assert (np.asarray(corrupted["length"]) > 0).all()


@each
def test_similarity_is_the_cosine_and_no_caption_is_written(name):
    objective = tiny.build(SETTINGS[name])
    params, batch = tiny.trained(objective), tiny.batch(4)
    features = objective.encode(params, batch["image"])
    captions = {key: np.repeat(batch[key], 2, axis=1) for key in ("text", "length")}
    score = jax.jit(objective.scorers["similarity"])(params, features, captions, jax.random.key(0))
    images, texts = embeddings(objective, params, batch)
    assert score.kind == "similarity"
    np.testing.assert_allclose(score.value, np.repeat((images * texts).sum(1)[:, None], 2, axis=1), atol=1e-5)
    assert objective.generate(params, features, jax.random.key(0)) is None


@pytest.mark.slow
@each
def test_bfloat16_changes_loss_and_gradient_by_rounding_only(name):
    reference, rounded = tiny.build(SETTINGS[name]), tiny.build(SETTINGS[name], dtype="bfloat16")
    params = tiny.trained(reference)
    corrupted = reference.corrupt(tiny.batch(8), jax.random.key(0))
    (expected, metrics), (found, found_metrics) = (
        jax.jit(objective.gradient)(params, corrupted) for objective in (reference, rounded)
    )
    assert {leaf.dtype for leaf in jax.tree.leaves((found, found_metrics))} == {jnp.dtype("float32")}
    assert found_metrics["loss"] != metrics["loss"]  # the towers are computed in bfloat16
    np.testing.assert_allclose(found_metrics["loss"], metrics["loss"], rtol=0.02)
    a, b = (np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(grads)]) for grads in (found, expected))
    assert np.linalg.norm(a - b) < 0.05 * np.linalg.norm(b)


def test_flops_contain_the_text_tower_once():
    objective = tiny.build(SETTINGS["clip"])
    sizes = {"width": 16, "depth": 1, "mlp_dim": 32}
    text = text_encoder.flops(**sizes, length=tiny.TOKENS) + 2 * 16 * 32
    captioner = tiny.build(sections.MaskedDiffusion())
    encoder = captioner.flops()["forward"] - captioner._text_flops(TokenCounts(), training=False)
    assert objective.flops() == objective.flops(captions_per_image=3)
    assert objective.flops()["forward"] == encoder + text


def test_equal_texts_have_the_same_number_and_no_others():
    rng = np.random.default_rng(0)
    text = rng.integers(0, 3, (200, 4)).astype(np.int32)  # 81 texts
    numbers = np.asarray(jax.jit(contrastive.equal_rows)(text))
    same = (text[:, None] == text[None]).all(-1)
    np.testing.assert_array_equal(numbers[:, None] == numbers[None], same)
