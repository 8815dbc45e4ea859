"""Takes one token from the logits of a place, and says how sure the model was.

Shapes: ... any leading axes, V vocabulary.
"""

import jax
import jax.numpy as jnp


def choose(logits: jax.Array, keys: jax.Array, temperature: float, top_p: float = 1.0) -> jax.Array:
    """One index i32[...] from logits f32[..., V]: the first largest at temperature 0, else a draw.

    The default mode of `jax.random.categorical` caps float32 Gumbel noise, which makes rare tokens too rare.

    Args:
      keys: one for each row [...], so that a draw does not depend on what else is drawn.
      top_p: the share that the tokens among which is drawn have together, see `nucleus` (arXiv 1904.09751).
    """
    if temperature == 0:
        return largest(logits)
    logits = logits / temperature
    if top_p < 1:
        logits = nucleus(logits, top_p)
    noise = jax.vmap(lambda key: jax.random.gumbel(key, logits.shape[-1:], mode="high"))(keys.reshape(-1))
    return largest(logits + noise.reshape(logits.shape))


def nucleus(logits: jax.Array, top_p: float) -> jax.Array:
    """-inf for tokens that are not among the likeliest, the fewest that have the share `top_p` together.

    The likeliest always stays, and so do those that tie with the last one.
    """
    share = jax.nn.softmax(logits, axis=-1)
    descending = jnp.sort(share, axis=-1, descending=True)
    before = jnp.cumsum(descending, axis=-1) - descending
    least = jnp.min(jnp.where(before < top_p, descending, jnp.inf), axis=-1, keepdims=True)
    return jnp.where(share >= least, logits, -jnp.inf)


def log_probability(logits: jax.Array, token: jax.Array) -> jax.Array:
    """log p(token), f32[...], untempered, of logits f32[..., V] and i32[...]."""
    return _at(logits, token) - _log_sum_exp(logits)


def certainty(logits: jax.Array, kind: str) -> jax.Array:
    """How sure a prediction is, f32[...], larger is surer, by the untempered softmax of f32[..., V].

    "confidence", the probability of the likeliest token; "margin", by how much it is above that of the
    second; "entropy", the negative entropy in nats.
    """
    norm, best = _log_sum_exp(logits), largest(logits)
    if kind == "entropy":
        log_p = logits - norm[..., None]
        return jnp.sum(jnp.where(log_p > -jnp.inf, jnp.exp(log_p) * log_p, 0.0), axis=-1)
    first = jnp.exp(_at(logits, best) - norm)
    if kind == "confidence":
        return first
    if kind != "margin":
        raise ValueError(f'kind "{kind}": choose confidence, margin or entropy')
    others = jnp.max(logits, axis=-1, where=_columns(logits) != best[..., None], initial=-jnp.inf)
    return first - jnp.exp(others - norm)


def largest(x: jax.Array) -> jax.Array:
    """The first index of the largest, i32[...]."""
    if jax.default_backend() == "gpu":
        return jnp.argmax(x, axis=-1)  # in one pass over x
    # An argmax would read element by element on a CPU.
    return jnp.min(jnp.where(x == x.max(-1, keepdims=True), _columns(x), x.shape[-1] - 1), axis=-1)


def _log_sum_exp(x: jax.Array) -> jax.Array:
    """log sum exp, f32[...], of f32[..., V]: a pass over it beside that of `largest`, however many functions ask."""
    top = _at(x, largest(x))
    top = jnp.where(jnp.isfinite(top), top, 0.0)
    return top + jnp.log(jnp.sum(jnp.exp(x - top[..., None]), axis=-1))


def _at(x: jax.Array, index: jax.Array) -> jax.Array:
    return jnp.take_along_axis(x, index[..., None], axis=-1)[..., 0]


def _columns(x: jax.Array) -> jax.Array:
    return jax.lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 1)
