import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdc_jax.diffusion import schedules

RATIOS = {  # at t = 1/4, 1/2, 3/4
    "linear": [0.25, 0.5, 0.75],
    "one_minus_cosine": [0.07612, 0.29289, 0.61732],
    "sine": [0.38268, 0.70711, 0.92388],
    "quadratic": [0.0625, 0.25, 0.5625],
}


@pytest.mark.parametrize("name", schedules.SCHEDULES)
def test_ratio_derivative_and_inverse(name):
    schedule = schedules.SCHEDULES[name]
    t = jnp.array([0.25, 0.5, 0.75])
    np.testing.assert_allclose(schedule.ratio(t), RATIOS[name], atol=1e-5)
    np.testing.assert_allclose(schedule.derivative(t), jax.vmap(jax.grad(schedule.ratio))(t), rtol=1e-5)
    np.testing.assert_allclose([schedule.inverse(float(m)) for m in schedule.ratio(t)], t, atol=1e-6)


@pytest.mark.parametrize("name", schedules.SCHEDULES)
@pytest.mark.parametrize("interval", [(0.0, 1.0), (0.5, 1.0), (0.2, 0.6)])
def test_the_interval_is_of_ratios_and_the_expected_loss_is_that_of_the_linear_schedule(name, interval):
    low, high = interval
    u = (jnp.arange(20_000) + 0.5) / 20_000
    ratio, slope = schedules.ratio_and_slope(name, interval, u)
    assert ratio.min() == pytest.approx(low, abs=1e-3)
    assert ratio.max() == pytest.approx(high, abs=1e-3)
    for power in (0, 1, 5):  # any function of the ratio
        expected = (high ** (power + 1) - low ** (power + 1)) / (power + 1) / (high - low)
        assert float(jnp.mean(slope * ratio**power)) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("name", schedules.SCHEDULES)
@pytest.mark.parametrize("ratio", [0.15, 1.0])
def test_an_interval_of_one_ratio(name, ratio):
    ratios, slope = schedules.ratio_and_slope(name, (ratio, ratio), jnp.linspace(0, 1, 5))
    np.testing.assert_array_equal(ratios, np.full(5, ratio, np.float32))
    np.testing.assert_array_equal(slope, np.ones(5))


def test_bad_input():
    for interval in ((0.5, 0.2), (0.0, 0.0), (-0.1, 1.0), (0.0, 1.1)):
        with pytest.raises(ValueError, match="masking ratios"):
            schedules.ratio_and_slope("linear", interval, jnp.zeros(1))
    with pytest.raises(ValueError, match='schedule "cosine": choose one of linear'):
        schedules.ratio_and_slope("cosine", (0, 1), jnp.zeros(1))
