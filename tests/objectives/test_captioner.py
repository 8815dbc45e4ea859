"""What holds for every objective that writes captions."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdc_jax import objectives
from mdc_jax.config import sections
from mdc_jax.data.batch import EOS_ID, PAD_ID
from mdc_jax.objectives.base import divided_by_shares
from tests.objectives import tiny

SETTINGS = {
    "masked": sections.MaskedDiffusion(null_image_rate=0.3),
    "two masks": sections.MaskedDiffusion(masks_per_caption=2, interval=(0.0, 1.0), masks="bernoulli"),
    "known": sections.MaskedDiffusion(padding="known"),
    "target": sections.MaskedDiffusion(padding="target", masks="stratified", interval=(0.0, 1.0)),
    "masked_lm": sections.MaskedLM(ratio=0.4),
    "parallel": sections.Parallel(null_image_rate=0.3),
    "autoregressive": sections.Autoregressive(null_image_rate=0.3),
    "cappa": sections.CapPa(parallel_share=0.6, null_image_rate=0.3),
}
# masked_lm is masked diffusion on an interval of one ratio (test_fixed_ratio.py).
each = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long) if name == "masked_lm" else name for name in SETTINGS]
)


def loss_and_grad(objective):
    return jax.jit(jax.value_and_grad(objective.loss, has_aux=True))


def assert_close(a, b, atol=1e-6):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-4, atol=atol), a, b)


def test_b16_with_6_layers_has_cappas_number_of_parameters():
    objective = objectives.build(
        sections.MaskedDiffusion(),
        model=sections.Model(),
        image=sections.Image(size=224),
        vocab_size=32_000,
        max_tokens=64,
    )
    params = jax.eval_shape(objective.init, jax.random.key(0))
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    width, mlp, vocab = 768, 3072, 32_000
    square, norm, up_and_down = width**2, 2 * width, 2 * width * mlp
    block = 4 * (square + width) + up_and_down + mlp + width + 2 * norm
    encoder = 16 * 16 * 3 * width + width + 196 * width + 12 * block + norm
    reader = 8 * square + up_and_down + 3 * width  # without biases, also in its LayerNorms
    decoder = (vocab + 1 + 64) * width + 6 * reader + norm + width * vocab + vocab
    assert count - math.prod(params["decoder"]["null_memory"].shape) == encoder + decoder
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}


@each
def test_the_untrained_model_is_uniform(name):
    objective = tiny.build(SETTINGS[name])
    corrupted = objective.corrupt(tiny.batch(64), jax.random.key(0))
    nats = np.einsum("b,bt,btl->", corrupted["weight"], corrupted["token_weight"], corrupted["predicted"])
    loss, _ = jax.jit(objective.loss)(objective.init(jax.random.key(0)), corrupted)
    np.testing.assert_allclose(loss, nats * np.log(tiny.VOCAB), rtol=1e-5)


@pytest.mark.slow
@each
def test_losses_metrics_and_gradients_of_slices_add_up(name):
    objective = tiny.build(SETTINGS[name])
    params = tiny.trained(objective)
    batch = tiny.batch(6, captions=2)
    batch["_mask"][4] = False
    batch["length"][1, 1] = 0
    corrupted = objective.corrupt(batch, jax.random.key(3))
    run = loss_and_grad(objective)
    whole = run(params, corrupted)
    parts = [run(params, jax.tree.map(lambda x, i=i: x[i::3], corrupted)) for i in range(3)]
    assert_close(whole, jax.tree.map(lambda *x: sum(x), *parts))


@pytest.mark.slow
@each
def test_masked_rows_and_missing_captions_count_for_nothing(name):
    objective = tiny.build(SETTINGS[name])
    params = tiny.trained(objective)
    batch = tiny.batch(4, captions=2)
    batch["_mask"][0] = False
    batch["length"][1] = 0  # no caption at all
    batch["length"][2, 0] = 0
    corrupted = objective.corrupt(batch, jax.random.key(3))
    np.testing.assert_allclose(corrupted["weight"], [0, 0, 0.5, 0.5])
    other = {**batch, "text": batch["text"].copy(), "image": batch["image"].copy()}
    other["text"][:2], other["text"][2, 0] = 7, 7
    other["image"][:2] = 255 - other["image"][:2]
    run = loss_and_grad(objective)
    result = run(params, corrupted)
    assert_close(result, run(params, objective.corrupt(other, jax.random.key(3))))
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(result))
    nothing = run(params, objective.corrupt({**batch, "_mask": np.zeros(4, bool)}, jax.random.key(3)))
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(nothing))


@pytest.mark.slow
@each
def test_ids_behind_the_end_never_matter(name):
    objective = tiny.build(SETTINGS[name])
    params = tiny.trained(objective)
    batch = tiny.batch(4)
    other = {**batch, "text": np.where(batch["text"] == PAD_ID, 5, batch["text"])}
    loss = jax.jit(lambda batch: objective.loss(params, objective.corrupt(batch, jax.random.key(1))))
    assert_close(loss(batch), loss(other))
    features = jax.jit(objective.encode)(params, batch["image"])
    for scorer in map(jax.jit, objective.scorers.values()):
        first, second = (scorer(params, features, captions, jax.random.key(0)).value for captions in (batch, other))
        assert_close(first, second)


@pytest.mark.parametrize(
    "settings",
    [
        sections.MaskedDiffusion(interval=(0.0, 0.4), masks="bernoulli", masks_per_caption=2),
        sections.MaskedDiffusion(interval=(0.5, 1.0), mask_eos=False),
    ],
    ids=["empty masks", "nothing but EOS"],
)
def test_accuracy_is_that_of_images_with_a_predicted_token(settings):
    objective, word = tiny.build(settings), 5
    batch = tiny.batch(48, captions=2)
    batch["length"][:16] = 1
    batch["text"][:16] = np.where(np.arange(tiny.TOKENS) == 0, EOS_ID, PAD_ID)
    batch["_mask"][20], batch["length"][30, 1] = False, 0
    corrupted = jax.device_get(objective.corrupt(batch, jax.random.key(0)))
    params = objective.init(jax.random.key(0))  # whose output layer is 0 but for a bias that always says one word
    params["decoder"]["head"]["bias"] = params["decoder"]["head"]["bias"].at[word].set(1.0)
    tokens = corrupted["predicted"].sum((1, 2))
    counted = batch["_mask"] & (tokens > 0)
    assert 8 < counted.sum() < 40
    right = (corrupted["predicted"] & (corrupted["targets"] == word)).sum((1, 2))
    metrics = divided_by_shares(jax.device_get(objective.loss(params, corrupted)[1]))
    np.testing.assert_allclose(metrics["accuracy"], np.mean(right[counted] / tokens[counted]), rtol=1e-5)
    assert "accuracy_images" not in metrics


@each
def test_every_caption_weighs_the_same_whatever_its_length(name):
    objective = tiny.build(SETTINGS[name])
    batch = tiny.batch(20_000)
    corrupted = jax.jit(objective.corrupt)(batch, jax.random.key(0))
    weight = (np.asarray(corrupted["token_weight"])[..., None] * corrupted["predicted"]).sum((1, 2))
    for length in range(1, tiny.TOKENS + 1):
        chosen = weight[batch["length"][:, 0] == length]
        assert abs(chosen.mean() - 1) < 4 * chosen.std() / len(chosen) ** 0.5 + 1e-5


@each
def test_images_weigh_the_same_however_many_captions_they_have(name):
    objective = tiny.build(SETTINGS[name])
    batch = tiny.batch(6_000, captions=3)
    missing = np.arange(3)[None] > np.arange(6_000)[:, None] % 3  # one, two or three captions
    batch["length"] = np.where(missing, 0, batch["length"])
    batch["text"] = np.where(missing[..., None], PAD_ID, batch["text"])
    corrupted = jax.jit(objective.corrupt)(batch, jax.random.key(0))
    weight = (np.asarray(corrupted["token_weight"])[..., None] * corrupted["predicted"]).sum((1, 2))
    for captions in range(3):
        chosen = weight[captions::3]
        assert abs(chosen.mean() - 1) < 4 * chosen.std() / len(chosen) ** 0.5 + 1e-5


@pytest.mark.slow
@each
def test_generated_captions_end_in_eos_then_pads(name):
    settings = SETTINGS[name]
    objective = tiny.build(settings)
    params = tiny.trained(objective)
    features = jax.jit(objective.encode)(params, tiny.batch(16)["image"])
    given = {"length": jnp.arange(16) % tiny.TOKENS + 1} if name == "known" else {}
    for settings in (sections.Decoding(), sections.Decoding(temperature=1.0)):
        generate = jax.jit(lambda key, t=settings: objective.generate(params, features, key, t, **given))
        written = generate(jax.random.key(0))
        tokens = np.asarray(written.tokens)
        assert tokens.shape == (16, tiny.TOKENS)
        assert tokens.min() >= 0
        assert tokens.max() < tiny.VOCAB  # MASK is never written
        for caption in tokens.tolist():
            end = caption.index(EOS_ID)
            assert set(caption[end + 1 :]) <= {PAD_ID}
            assert name == "target" or PAD_ID not in caption[:end]
        if given:
            np.testing.assert_array_equal((tokens == EOS_ID).argmax(1) + 1, given["length"])


@each
def test_null_images_are_not_looked_at(name):
    objective = tiny.build(SETTINGS[name])
    params = tiny.trained(objective)
    corrupted = dict(objective.corrupt(tiny.batch(64), jax.random.key(0)))
    share = float(corrupted["null_image"].mean())
    assert share == 0 if objective.settings.null_image_rate == 0 else 0.1 < share < 0.5
    other = 255 - corrupted["image"]
    run = jax.jit(objective.loss)
    blind = {**corrupted, "null_image": jnp.ones(64, bool)}
    assert_close(run(params, blind), run(params, {**blind, "image": other}))
    assert abs(run(params, corrupted)[0] - run(params, {**corrupted, "image": other})[0]) > 1e-4


@each
def test_null_features_score_as_the_null_memory_does_and_no_scorer_encodes(name):
    objective = tiny.build(SETTINGS[name])
    params, batch = tiny.trained(objective), tiny.batch(3, captions=2)
    null = objective.null_features(params, 3)
    if objective.settings.null_image_rate == 0:
        assert null is None
        return
    decoder = {"decoder": params["decoder"]}  # a scorer that ran the encoder would miss its parameters
    for scorer in objective.scorers.values():
        assert jax.eval_shape(scorer, decoder, null, batch, jax.random.key(0)).value.shape == (3, 2)
    copies = {"tokens": jnp.repeat(null["tokens"], 4, axis=1)}
    scorer = jax.jit(next(iter(objective.scorers.values())))
    found, expected = (scorer(decoder, features, batch, jax.random.key(0)).value for features in (null, copies))
    assert_close(found, expected, atol=1e-4)


def test_a_decoder_trained_without_images_sees_none_afterwards():
    blind = tiny.build(sections.MaskedDiffusion(null_image_rate=1.0))
    params, batch = tiny.trained(blind), tiny.batch(3)
    assert blind.corrupt(batch, jax.random.key(0))["null_image"].all()
    first, second = (blind.encode(params, image) for image in (batch["image"], 255 - batch["image"]))
    expected = jnp.broadcast_to(params["decoder"]["null_memory"][None, None], (3, 4, 16))
    for features in (first, second):
        np.testing.assert_array_equal(features["tokens"], expected)
    assert jnp.abs(first["pooled"] - second["pooled"]).max() > 1e-3  # what probes read is left as it is


def test_features():
    objective = tiny.build(SETTINGS["masked"], dtype="bfloat16")
    features = jax.jit(objective.encode)(tiny.trained(objective), tiny.batch(3)["image"])
    assert {key: value.shape for key, value in features.items()} == {
        "tokens": (3, 4, 16),
        "pooled": (3, 16),
        "stem": (3, 4, 16),
        "blocks": (2, 3, 4, 16),
    }
    assert {value.dtype for value in features.values()} == {jnp.dtype("float32")}
    np.testing.assert_allclose(features["pooled"], features["tokens"].mean(1), atol=1e-5)


@pytest.mark.slow
@each
def test_bfloat16_and_the_kind_of_loop_change_the_loss_by_rounding_only(name):
    reference = tiny.build(SETTINGS[name])
    params = tiny.trained(reference)
    corrupted = reference.corrupt(tiny.batch(8), jax.random.key(0))
    loss, _ = jax.jit(reference.loss)(params, corrupted)
    assert loss.dtype == jnp.float32
    for model, tolerance in (({"scan": False}, 1e-5), ({"remat": "on"}, 1e-5), ({"dtype": "bfloat16"}, 0.05)):
        other, _ = jax.jit(tiny.build(SETTINGS[name], **model).loss)(params, corrupted)
        np.testing.assert_allclose(other, loss, rtol=tolerance)


@pytest.mark.parametrize("name", ["masked", "autoregressive"])
def test_captions_do_not_depend_on_the_kind_of_loop(name):
    reference = tiny.build(SETTINGS[name])
    params, images = tiny.trained(reference), tiny.batch(3)["image"]

    def write(**model):
        objective = tiny.build(SETTINGS[name], **model)
        return jax.jit(lambda p: objective.generate(p, objective.encode(p, images), jax.random.key(0)))(params)

    looped, unrolled = write(), write(scan=False)
    np.testing.assert_array_equal(looped.tokens, unrolled.tokens)
    np.testing.assert_allclose(looped.log_prob, unrolled.log_prob, atol=1e-5)


def test_images_are_normalised_by_the_configs_numbers():
    model = sections.Model(sections.Encoder("S/4", 4, 8, 1, 2, 16), sections.Decoder(depth=1))
    settings = {"model": model, "vocab_size": 11, "max_tokens": 4}
    plain = objectives.build(SETTINGS["masked"], image=sections.Image(8, (0.0,) * 3, (1.0,) * 3), **settings)
    mean, std = (10.0, 20.0, 30.0), (2.0, 4.0, 5.0)
    shifted = objectives.build(SETTINGS["masked"], image=sections.Image(8, mean, std), **settings)
    params = jax.jit(plain.init)(jax.random.key(0))
    image = np.tile(np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1) % 40, (1, 1, 1, 3))
    moved = (image * np.array(std) + np.array(mean)).astype(np.uint8)
    np.testing.assert_allclose(
        plain.encode(params, image)["tokens"], shifted.encode(params, moved)["tokens"], atol=1e-5
    )


def test_flops_count_the_encoder_once_for_all_texts():
    one, two = (tiny.build(sections.MaskedDiffusion(masks_per_caption=k)).flops() for k in (1, 2))
    assert two == tiny.build(sections.MaskedDiffusion()).flops(captions_per_image=2)
    assert one["forward"] < two["forward"] < 2 * one["forward"]
    assert 2.9 * one["forward"] < one["train"] < 3 * one["forward"]


def test_unknown_objective():
    section = sections.Autoregressive(name="causal")
    with pytest.raises(ValueError, match='objective "causal": choose one of masked_diffusion, masked_lm, parallel'):
        tiny.build(section)


@pytest.mark.slow
def test_a_shorter_canvas_changes_nothing_where_pads_are_never_seen():
    """Length buckets: autoregression, and masked diffusion that knows the length, have the same loss on any canvas."""
    whole = tiny.batch(6, captions=2)
    whole["length"] = np.minimum(whole["length"], 4)
    short = whole | {"text": whole["text"][..., :4]}
    for settings in (
        sections.Autoregressive(),
        sections.MaskedDiffusion(padding="known", interval=(1.0, 1.0), masks_per_caption=2),
    ):
        objective = tiny.build(settings)
        params = tiny.trained(objective)
        losses = [objective.loss(params, objective.corrupt(batch, jax.random.key(0)))[0] for batch in (whole, short)]
        np.testing.assert_allclose(*losses, rtol=1e-5)


@pytest.mark.parametrize("padding", ["hidden", "target"])
def test_a_caption_on_a_short_canvas_is_normalised_by_the_tokens_that_it_has_there(padding):
    objective = tiny.build(sections.MaskedDiffusion(padding=padding, interval=(1.0, 1.0)))
    params, batch = tiny.trained(objective), tiny.batch(6)
    batch["length"] = np.minimum(batch["length"], 4)
    short = objective.corrupt(batch | {"text": batch["text"][..., :4]}, jax.random.key(0))
    assert short["inputs"].shape == (6, 1, 4)
    tokens = 4 if padding == "target" else batch["length"]
    np.testing.assert_allclose(short["token_weight"], np.broadcast_to(1 / tokens, (6, 1)), rtol=1e-6)
    assert np.isfinite(objective.loss(params, short)[0])


@pytest.mark.parametrize("name", ["two masks", "parallel", "autoregressive", "cappa"])
def test_token_losses_are_those_that_training_sums(name):
    objective = tiny.build(SETTINGS[name])
    params, batch, key = tiny.trained(objective), tiny.batch(captions=2), jax.random.key(3)
    corrupted = objective.corrupt(batch, key)
    corrupted = {**corrupted, "null_image": jnp.zeros_like(corrupted["null_image"])}
    features, (text_key, _) = objective.encode(params, batch["image"]), jax.random.split(key)
    nll, predicted, share = jax.jit(objective.token_losses)(params, features, batch, text_key)
    weight = corrupted["weight"][:, None] * corrupted["token_weight"]
    np.testing.assert_allclose(jnp.sum(weight * nll.sum(-1)), objective.loss(params, corrupted)[0], rtol=1e-4)
    np.testing.assert_array_equal(predicted, corrupted["predicted"])
    length = np.tile(batch["length"], (1, share.shape[1] // 2))
    np.testing.assert_allclose(share, predicted.sum(-1) / length, rtol=1e-6)
