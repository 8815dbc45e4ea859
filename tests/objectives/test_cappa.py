import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdc_jax.config import sections
from tests.objectives import tiny

CAPPA = tiny.build(sections.CapPa())


@pytest.mark.parametrize(
    ("share", "mode"), [(1.0, sections.Parallel()), (0.0, sections.Autoregressive())], ids=["parallel", "from the left"]
)
def test_an_example_is_one_of_its_two_modes(share, mode):
    """The loss is that of the mode's own objective, on the same parameters."""
    cappa, other = tiny.build(sections.CapPa(parallel_share=share)), tiny.build(mode)
    params, batch = tiny.trained(cappa), tiny.batch(5, captions=2)
    losses = [objective.loss(params, objective.corrupt(batch, jax.random.key(0)))[0] for objective in (cappa, other)]
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_the_mode_is_drawn_for_each_example_and_the_share_is_logged():
    batch = tiny.batch(4000, captions=2)
    corrupted = CAPPA.corrupt(batch, jax.random.key(0))
    hidden = np.asarray(corrupted["inputs"] == CAPPA.mask_id).all(-1)
    many = batch["length"].min(1) > 1  # else a text from the left is all MASK, too
    np.testing.assert_array_equal(hidden[many, 0], hidden[many, 1])
    assert abs(hidden[many, 0].mean() - 0.75) < 4 * (0.75 * 0.25 / many.sum()) ** 0.5
    other = CAPPA.corrupt(batch, jax.random.key(1))
    assert (corrupted["parallel"] != other["parallel"]).any()
    metrics = CAPPA.metrics(corrupted)
    np.testing.assert_allclose(metrics["parallel_share"], corrupted["parallel"].mean(), rtol=1e-5)


def test_only_parallel_examples_look_ahead():
    corrupted = CAPPA.corrupt(tiny.batch(64), jax.random.key(0))
    mask = np.asarray(CAPPA.attention_mask(corrupted))
    parallel = np.asarray(corrupted["parallel"])
    assert mask.shape == (64, 1, tiny.TOKENS, tiny.TOKENS)
    assert mask[parallel].all()
    np.testing.assert_array_equal(mask[~parallel], np.broadcast_to(jnp.tri(tiny.TOKENS) > 0, mask[~parallel].shape))


@pytest.mark.slow
def test_captions_and_both_scores_are_those_of_its_modes():
    params, batch = tiny.trained(CAPPA), tiny.batch(3)
    features = CAPPA.encode(params, batch["image"])
    captions = {"text": batch["text"], "length": batch["length"]}
    assert set(CAPPA.scorers) == {"autoregressive", "parallel"}
    for name, section in (("autoregressive", sections.Autoregressive()), ("parallel", sections.Parallel())):
        scores = [
            objective.scorers[name](params, features, captions, jax.random.key(0)).value
            for objective in (CAPPA, tiny.build(section))
        ]
        np.testing.assert_allclose(*scores, rtol=1e-6)
    written = [
        jax.jit(objective.generate)(params, features, jax.random.key(0)).tokens
        for objective in (CAPPA, tiny.build(sections.Autoregressive()))
    ]
    np.testing.assert_array_equal(*written)
