"""Where the prediction of a token looked: within the image, and given what was there when it was set."""

import jax
import numpy as np
import pytest

from mdc_jax import objectives
from mdc_jax.config import sections
from mdc_jax.data.batch import EOS_ID, PAD_ID
from mdc_jax.objectives import base
from tests.objectives import tiny

TEXT = np.array([[5, 7, 9, 4, EOS_ID, PAD_ID], [3, 8, 6, EOS_ID, PAD_ID, PAD_ID]], np.int32)
STEP = np.array([[2, 1, 0, 1, -1, -1], [0, 1, 2, -1, -1, -1]], np.int32)
PATCHES = 4


def look(objective, text, params):
    features = objective.encode(params, tiny.batch(2)["image"])
    caption = base.Caption(text, np.zeros(text.shape, np.float32), STEP)
    return np.asarray(jax.jit(objective.attention)(params, features, caption))


@pytest.mark.parametrize(
    "section",
    [
        sections.MaskedDiffusion(),
        sections.MaskedDiffusion(padding="known"),
        sections.Parallel(),
        sections.Autoregressive(),
        sections.CapPa(),
    ],
    ids=lambda section: f"{section.name}-{getattr(section, 'padding', '')}",
)
def test_the_weights_are_of_the_patches_and_of_what_was_there_when_the_token_was_set(section):
    objective = tiny.build(section)
    params = tiny.trained(objective)
    weights = look(objective, TEXT, params)
    assert weights.shape == (*TEXT.shape, PATCHES)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
    # The second token, set at step 1, changes where those look that were set later: from left to right those behind
    # it, whatever the steps, and nothing where nothing is visible.
    later = STEP > 1
    if isinstance(section, sections.Autoregressive | sections.CapPa):
        later = np.arange(6)[None] > np.array([[1], [1]])
    elif isinstance(section, sections.Parallel):
        later = np.zeros_like(later)
    changed = TEXT.copy()
    changed[:, 1] = 10
    difference = np.abs(look(objective, changed, params) - weights).max(-1)
    real = TEXT != PAD_ID
    np.testing.assert_array_equal((difference > 1e-6)[real], later[real])


def test_a_class_token_is_no_place_to_look_at():
    encoder = sections.Encoder(patch=4, width=16, depth=1, heads=2, mlp_dim=32, class_token=True)
    model = sections.Model(encoder=encoder, decoder=sections.Decoder(depth=1))
    sizes = {"image": sections.Image(size=tiny.SIZE), "vocab_size": tiny.VOCAB, "max_tokens": tiny.TOKENS}
    objective = objectives.build(sections.MaskedDiffusion(), model=model, **sizes)
    params = tiny.trained(objective)
    weights = look(objective, TEXT, params)
    assert weights.shape == (*TEXT.shape, PATCHES)
    features = objective.encode(params, tiny.batch(2)["image"])
    # The first token to be set sees nothing but MASK and EOS, and looks at the class token too.
    shown = np.where(TEXT == EOS_ID, EOS_ID, objective.mask_id)[:, None]
    method = (
        {"params": params["decoder"]},
        shown,
        objective.decoder.apply({"params": params["decoder"]}, features["tokens"], method="project"),
    )
    every = objective.decoder.apply(*method, method="watch")[:, 0]
    assert every.shape[-1] == PATCHES + 1
    np.testing.assert_allclose(weights[STEP == 0], every[STEP == 0][:, 1:], atol=1e-5)


def test_a_contrastive_objective_has_no_decoder_to_look():
    objective = tiny.build(sections.Clip())
    params = tiny.trained(objective)
    features = objective.encode(params, tiny.batch(2)["image"])
    caption = base.Caption(TEXT, np.zeros(TEXT.shape, np.float32), STEP)
    assert objective.attention(params, features, caption) is None
