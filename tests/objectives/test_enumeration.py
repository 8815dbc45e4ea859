"""The expected loss of a small model, against the sum over all masks of a caption."""

import itertools

import jax
import numpy as np
import pytest

from mdc_jax.config import sections
from mdc_jax.data.batch import EOS_ID, PAD_ID
from tests.objectives import tiny

TEXT, N = np.array([5, 7, 4, EOS_ID, PAD_ID, PAD_ID], np.int32), 4
DRAWS, REPEATS = 2000, 6


def expected_loss(objective, params, image, interval):
    """Mean over ratios r of the interval of E over Bernoulli(r) masks: -log p summed over masked tokens, over r n."""
    every = np.array(list(itertools.product([False, True], repeat=N)))
    masked = np.concatenate([every, np.zeros((len(every), tiny.TOKENS - N), bool)], axis=1)
    shown = np.where(masked | (TEXT == PAD_ID), objective.mask_id, TEXT)
    memory = objective.encode(params, image)["tokens"]
    hidden = np.asarray(jax.jit(objective.decoder.apply)({"params": params["decoder"]}, shown[None], memory)[0])
    scores = hidden @ np.asarray(params["decoder"]["head"]["kernel"]) + np.asarray(params["decoder"]["head"]["bias"])
    logp = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    nll = -(logp[:, np.arange(tiny.TOKENS), TEXT] * masked).sum(-1)[1:]  # the empty mask costs nothing
    size = masked.sum(-1)[1:]
    low, high = interval
    r = low + (high - low) * (np.arange(2000) + 0.5)[:, None] / 2000
    return np.sum(np.mean(r ** (size - 1) * (1 - r) ** (N - size), axis=0) * nll) / N


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "interval"),
    [
        (sections.MaskedDiffusion(), (0.5, 1.0)),
        (sections.MaskedDiffusion(interval=(0.3, 0.8), masks="bernoulli", schedule="sine"), (0.3, 0.8)),
        (sections.MaskedDiffusion(interval=(0.0, 1.0), schedule="quadratic"), (0.0, 1.0)),
        (sections.MaskedDiffusion(interval=(0.0, 1.0), masks="stratified", masks_per_caption=2), (0.0, 1.0)),
        (sections.MaskedDiffusion(interval=(0.2, 1.0), masks="bernoulli"), (0.2, 1.0)),
        (sections.MaskedLM(ratio=0.15), (0.15, 0.15)),
        (sections.MaskedLM(ratio=0.6, masks="bernoulli"), (0.6, 0.6)),
        (sections.MaskedDiffusion(interval=(0.0, 1.0), masks="bernoulli"), (0.0, 1.0)),
        (sections.Parallel(), (1.0, 1.0)),
    ],
)
def test_the_expected_loss_is_that_of_all_masks(settings, interval):
    assert_expected(settings, interval, np.array([TEXT]), np.array([N], np.int32))


@pytest.mark.slow
def test_the_expected_loss_with_two_masks_is_that_of_the_one_caption_that_is_there():
    settings = sections.MaskedDiffusion(masks_per_caption=2)
    assert_expected(settings, (0.5, 1.0), np.array([np.full_like(TEXT, 5), TEXT]), np.array([0, N], np.int32))


def assert_expected(settings, interval, text, length):
    """Of images with captions i32[C, L], all of which are `TEXT` or of no length."""
    objective = tiny.build(settings)
    params, image = tiny.trained(objective), tiny.batch(1)["image"]
    expected = expected_loss(objective, params, image, interval)
    batch = {
        "image": np.repeat(image, DRAWS, 0),
        "text": np.tile(text, (DRAWS, 1, 1)),
        "length": np.tile(length, (DRAWS, 1)),
        "_mask": np.ones(DRAWS, bool),
    }
    losses = [objective.loss(params, objective.corrupt(batch, jax.random.key(i)))[0] for i in range(REPEATS)]
    error = np.std(losses, ddof=1) / REPEATS**0.5
    assert error < 0.02 * expected
    assert abs(np.mean(losses) - expected) < 5 * error + 0.003 * expected
