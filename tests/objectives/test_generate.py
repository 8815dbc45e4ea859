"""Captions of every objective that writes some: what is said of them agrees with what the decoder says."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdc_jax.config import ConfigError, sections
from mdc_jax.data.batch import EOS_ID, PAD_ID
from tests.objectives import tiny

MASKED = tiny.build(sections.MaskedDiffusion(null_image_rate=0.1))
LEFT = tiny.build(sections.Autoregressive(null_image_rate=0.1))
SAMPLE = sections.Decoding(temperature=1.0)


def write(objective, settings=SAMPLE, size=3, **given):
    params = tiny.trained(objective)
    features = objective.encode(params, tiny.batch(size)["image"])
    run = jax.jit(lambda key: objective.generate(params, features, key, settings, **given))
    return params, features, jax.device_get(run(jax.random.key(0)))


def log_probabilities(objective, params, memory, inputs, mask=None, null=None):
    """Untempered, f32[B, L, V], by the decoder as training runs it."""
    hidden = objective.decoder.apply({"params": params["decoder"]}, inputs[:, None], memory, mask, null)[:, 0]
    head = params["decoder"]["head"]
    return hidden @ head["kernel"] + head["bias"][None, None]


def own(logits, tokens, forbidden=()):
    logits = np.array(logits)
    logits[..., list(forbidden)] = -np.inf
    return np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), tokens[..., None], axis=-1)[..., 0]


@pytest.mark.parametrize("guidance", [0.0, 1.5])
def test_log_prob_and_step_of_masked_decoding_are_those_of_a_plain_rerun(guidance):
    settings = dataclasses.replace(SAMPLE, steps=3, guidance=guidance)
    params, features, caption = write(MASKED, settings)
    words = (caption.tokens != PAD_ID) & (caption.tokens != EOS_ID)
    for step in range(3):
        shown = jnp.where(words & (caption.step >= step) | (caption.tokens == PAD_ID), MASKED.mask_id, caption.tokens)
        c, u = (
            log_probabilities(MASKED, params, features["tokens"], shown, None, null)
            for null in (None, jnp.ones(3, bool))
        )
        expected = own(u + (1 + guidance) * (c - u), caption.tokens, (EOS_ID, PAD_ID))
        now = words & (caption.step == step)
        np.testing.assert_allclose(caption.log_prob[now], expected[now], rtol=1e-3, atol=1e-4)
    law = MASKED.length_law(params, features)
    length = (caption.tokens == EOS_ID).argmax(1)
    np.testing.assert_allclose(caption.log_prob[np.arange(3), length], law[np.arange(3), length], rtol=1e-4)
    assert (caption.step[~words] == -1).all() and not caption.log_prob[caption.tokens == PAD_ID].any()


def test_a_length_that_is_given_or_known_to_nobody():
    length = jnp.array([2, 6, 1])
    _, _, caption = write(MASKED, length=length)
    np.testing.assert_array_equal((caption.tokens == EOS_ID).argmax(1) + 1, length)
    assert not caption.log_prob[caption.tokens == EOS_ID].any()
    with pytest.raises(ConfigError, match='length="training": give `length`'):
        write(MASKED, sections.Decoding(length="training"))
    with pytest.raises(ConfigError, match='"autoregressive" ends captions itself: give no length'):
        write(LEFT, length=length)


@pytest.mark.parametrize("settings", [SAMPLE, sections.Decoding(), sections.Decoding(beams=4)])
def test_log_prob_from_the_left_adds_up_to_the_score(settings):
    params, features, caption = write(LEFT, settings)
    captions = {"text": caption.tokens[:, None], "length": (caption.tokens != PAD_ID).sum(1)[:, None]}
    score = LEFT.scorers["autoregressive"](params, features, captions, jax.random.key(0))
    np.testing.assert_allclose(caption.log_prob.sum(1), score.value[:, 0], rtol=1e-4)
    real = caption.tokens != PAD_ID
    np.testing.assert_array_equal(caption.step, np.where(real, np.arange(tiny.TOKENS), -1))


def test_more_beams_find_likelier_captions():
    settings = (sections.Decoding(), sections.Decoding(beams=4))
    greedy, beams = (write(LEFT, s, size=24)[2].log_prob.sum(1) for s in settings)
    assert (beams >= greedy - 1e-5).all() and (beams > greedy + 1e-3).any()


def test_guidance_from_the_left():
    params, features, caption = write(LEFT, dataclasses.replace(SAMPLE, guidance=2.0))
    inputs = np.concatenate([np.full((3, 1), LEFT.mask_id), caption.tokens[:, :-1]], axis=1)
    causal = jnp.tri(tiny.TOKENS, dtype=bool)[None, None]
    c, u = (
        log_probabilities(LEFT, params, features["tokens"], inputs, causal, null) for null in (None, jnp.ones(3, bool))
    )
    real = caption.tokens != PAD_ID
    np.testing.assert_allclose(
        caption.log_prob[real], own(u + 3.0 * (c - u), caption.tokens)[real], rtol=1e-3, atol=1e-4
    )


@pytest.mark.slow
def test_bfloat16_writes_the_same_kind_of_captions():
    for section in (sections.MaskedDiffusion(), sections.Autoregressive()):
        _, _, caption = write(tiny.build(section, dtype="bfloat16"))
        assert caption.log_prob.dtype == np.float32 and (caption.tokens == EOS_ID).any(1).all()
