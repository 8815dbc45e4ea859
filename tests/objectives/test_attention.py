"""Where the prediction of a token looked: within the image, and given what was there when it was set."""

import jax
import numpy as np
import pytest

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


def test_a_contrastive_objective_has_no_decoder_to_look():
    objective = tiny.build(sections.Clip())
    params = tiny.trained(objective)
    features = objective.encode(params, tiny.batch(2)["image"])
    caption = base.Caption(TEXT, np.zeros(TEXT.shape, np.float32), STEP)
    assert objective.attention(params, features, caption) is None
