"""The length law that a masked model with hidden padding learns without being asked.

Shapes: ... any leading axes, L tokens.
"""

import jax
import jax.numpy as jnp
import numpy as np


def log_training_weight(max_tokens: int, interval: tuple[float, float]) -> np.ndarray:
    """log w_n, f64[L]: how much a caption of n = 1 ... L tokens weighs, in training, while all masked.

    All n tokens are masked with probability r^n at ratio r, and then weigh 1 / r (any schedule, any
    kind of mask): w_n is the mean of r^(n-1) over the interval [a, b], (b^n - a^n) / (n (b - a)).
    The division by n of the normalisation per caption is not in it.
    """
    low, high = interval
    n = np.arange(1, max_tokens + 1)
    if low == high:
        return (n - 1) * np.log(high)
    return n * np.log(high) + np.log1p(-((low / high) ** n)) - np.log(n * (high - low))


def log_lengths(log_hazard: jax.Array, interval: tuple[float, float]) -> jax.Array:
    """log p(n), n = 1 ... L, f32[..., L], from the hazards of the all-masked state.

    Token i is a target only in captions of n >= i tokens, so that log P(EOS at i), `log_hazard`
    f32[..., L], is a hazard: of a length law that training tilted by w_n, and once more by 1 / n
    (normalisation per caption). EOS at the last place is certain, since longer captions were cut there.

    Args:
      interval: of masking ratios, as in training.
    """
    # A hazard of 1 ends the law; log1p(-exp(0)) would be -inf, and -inf - (-inf) NaN further on.
    log_hazard = jnp.minimum(log_hazard, -1e-7).at[..., -1].set(0.0)
    log_survival = jnp.log(-jnp.expm1(log_hazard[..., :-1])).cumsum(-1)
    tilted = log_hazard.at[..., 1:].add(log_survival)
    max_tokens = log_hazard.shape[-1]
    tilt = log_training_weight(max_tokens, interval) - np.log(np.arange(1, max_tokens + 1))
    return jax.nn.log_softmax(tilted - jnp.expand_dims(tilt.astype(np.float32), range(tilted.ndim - 1)), axis=-1)
