"""Where the prediction of a token looks: within the image, and not depending on the token itself."""

import jax
import numpy as np
import pytest

from mdc_jax.config import sections
from mdc_jax.data.batch import EOS_ID, PAD_ID
from tests.objectives import tiny

TEXT = np.array([[5, 7, 9, 4, EOS_ID, PAD_ID], [3, 8, 6, EOS_ID, PAD_ID, PAD_ID]], np.int32)
PATCHES = 4


def look(objective, text, params):
    features = objective.encode(params, tiny.batch(2)["image"])
    return np.asarray(jax.jit(objective.attention)(params, features, text))


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
def test_the_weights_are_of_the_patches_and_do_not_depend_on_the_token(section):
    objective = tiny.build(section)
    params = tiny.trained(objective)
    weights = look(objective, TEXT, params)
    assert weights.shape == (*TEXT.shape, PATCHES)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
    # The second token changes where the others look, from left to right only those behind it, and nothing where
    # nothing is visible.
    before = isinstance(section, sections.MaskedDiffusion)
    behind = not isinstance(section, sections.Parallel)
    changed = TEXT.copy()
    changed[:, 1] = 10
    difference = np.abs(look(objective, changed, params) - weights)[:, :4].max((0, 2))
    assert (difference > 1e-6).tolist() == [before, False, behind, behind]


def test_a_contrastive_objective_has_no_decoder_to_look():
    objective = tiny.build(sections.Clip())
    params = tiny.trained(objective)
    features = objective.encode(params, tiny.batch(2)["image"])
    assert objective.attention(params, features, TEXT) is None
