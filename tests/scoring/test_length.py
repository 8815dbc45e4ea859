import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdc_jax.config import sections
from mdc_jax.data.batch import EOS_ID
from mdc_jax.scoring import length
from tests.objectives import tiny

LAW = np.array([0.05, 0.3, 0.1, 0.25, 0.1, 0.2])


@pytest.mark.parametrize("interval", [(0.0, 1.0), (0.5, 1.0), (0.3, 0.3), (1.0, 1.0)])
def test_inverts_the_tilt_of_training(interval):
    n = np.arange(1, 7)
    r = interval[0] + (interval[1] - interval[0]) * (np.arange(100_000) + 0.5) / 100_000
    weight = np.array([np.mean(r ** (k - 1)) for k in n])
    np.testing.assert_allclose(length.log_training_weight(6, interval), np.log(weight), atol=1e-4)
    tilted = LAW * weight / n
    hazard = tilted / tilted[::-1].cumsum()[::-1]
    recovered = length.log_lengths(jnp.log(jnp.asarray(hazard[None], jnp.float32)), interval)
    np.testing.assert_allclose(jnp.exp(recovered[0]), LAW, atol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        sections.MaskedDiffusion(),
        sections.MaskedDiffusion(interval=(0.0, 1.0), masks="stratified", schedule="sine"),
        sections.MaskedDiffusion(interval=(0.4, 0.9), masks="bernoulli", schedule="quadratic"),
        sections.MaskedDiffusion(interval=(1.0, 1.0)),
    ],
)
def test_recovers_the_law_of_the_captions_from_what_the_loss_is_minimal_for(settings):
    """The best predictor of the all-masked state is the weighted share of EOS among its targets."""
    size = 200_000
    rng = np.random.default_rng(0)
    lengths = rng.choice(np.arange(1, 7), (size, 1), p=LAW).astype(np.int32)
    text = np.full((size, 1, tiny.TOKENS), 5, np.int32)
    np.put_along_axis(text, lengths[..., None] - 1, EOS_ID, axis=-1)
    objective = tiny.build(settings)
    seen = jax.jit(objective.corrupt_text)(text, lengths, jax.random.key(1))
    all_masked = np.asarray((seen["inputs"] == objective.mask_id).all(-1, keepdims=True))
    weight = np.asarray(seen["predicted"] * seen["token_weight"][..., None]) * all_masked
    hazard = (weight * (text == EOS_ID)).sum((0, 1)) / weight.sum((0, 1))
    recovered = np.exp(length.log_lengths(jnp.log(jnp.asarray(hazard[None], jnp.float32)), settings.interval))[0]
    np.testing.assert_allclose(recovered, LAW, atol=0.03)
    uncorrected = hazard * np.cumprod(np.append(1, 1 - hazard[:-1]))
    assert np.abs(uncorrected - LAW).max() > 0.06  # the correction is not small


def test_extreme_hazards_stay_finite_where_they_should():
    law = length.log_lengths(jnp.log(jnp.array([[0.0, 1.0, 0.5, 0.0]])), (0.5, 1.0))
    np.testing.assert_allclose(jnp.exp(law), [[0, 1, 0, 0]], atol=1e-5)
    assert not jnp.isnan(law).any()
