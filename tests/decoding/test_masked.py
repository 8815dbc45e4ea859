import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdc_jax.config import sections
from mdc_jax.decoding import masked
from mdc_jax.ops import row_chunks

MASK, DRAWS = 3, 20_000
DEPENDENT = np.random.default_rng(0).dirichlet(np.full(27, 0.5)).reshape(3, 3, 3)
INDEPENDENT = np.einsum("a,b,c->abc", *np.random.default_rng(1).dirichlet(np.full(3, 2.0), 3))
LIMIT = 54.1  # the 99.9% point of chi-square at 26 degrees of freedom
SAMPLE = sections.Decoding(temperature=1.0, order="random")


def tabular(tokens, joint=DEPENDENT):
    """Exact conditionals of three tokens under a joint distribution, given those that are set, f32[B, 3, 3]."""
    seen = (tokens[..., None] == MASK) | (tokens[..., None] == jnp.arange(3)[None, None])
    first, second, third = (seen[:, i].astype(jnp.float32) for i in range(3))
    joint = jnp.asarray(joint, jnp.float32)
    conditionals = [
        jnp.einsum("abc,zb,zc->za", joint, second, third),
        jnp.einsum("abc,za,zc->zb", joint, first, third),
        jnp.einsum("abc,za,zb->zc", joint, first, second),
    ]
    return jnp.log(jnp.stack(conditionals, axis=1))


def identity(logits):
    return logits


def fill(tokens, settings, predict=tabular, key=0, mask=MASK):
    run = jax.jit(lambda key: masked.fill(predict, identity, tokens, tokens == mask, key, settings))
    return jax.device_get(run(jax.random.key(key)))


def chi_square(tokens, expected):
    counts = np.bincount(np.asarray(tokens) @ np.array([9, 3, 1]), minlength=27)
    expected = expected.ravel() * len(tokens)
    return np.sum((counts - expected) ** 2 / np.maximum(expected, 1e-9) * (expected > 0))


def empty(batch=DRAWS):
    return jnp.full((batch, 3), MASK)


@pytest.mark.parametrize(
    ("joint", "steps", "exact"),
    [
        (DEPENDENT, 0, True),
        (DEPENDENT, 3, True),
        (DEPENDENT, 2, False),
        (DEPENDENT, 1, False),
        (INDEPENDENT, 2, True),
        (INDEPENDENT, 1, True),
    ],
)
def test_random_order_has_the_models_distribution_where_what_is_revealed_together_is_independent(joint, steps, exact):
    settings = sections.Decoding(temperature=1.0, order="random", steps=steps)
    found = fill(empty(), settings, functools.partial(tabular, joint=joint))
    assert (chi_square(found.tokens, joint) < LIMIT) == exact


def test_tokens_revealed_together_may_depend_on_others_that_are_set():
    """The first two are independent of each other given the third: one step for them is exact."""
    rng = np.random.default_rng(2)
    given_third = [rng.dirichlet(np.full(3, 0.5), 3) for _ in range(2)]
    third = rng.dirichlet(np.full(3, 2.0))
    joint = np.einsum("ca,cb,c->abc", *given_third, third)
    tokens = empty().at[:, 2].set(jnp.asarray(rng.choice(3, DRAWS, p=third)))
    found = fill(tokens, sections.Decoding(temperature=1.0, order="random", steps=1), lambda t: tabular(t, joint))
    assert chi_square(found.tokens, joint) < LIMIT


def test_tokens_that_are_given_condition_the_others_and_stay():
    found = fill(jnp.tile(jnp.array([[MASK, 1, MASK]]), (DRAWS, 1)), SAMPLE)
    conditional = np.zeros_like(DEPENDENT)
    conditional[:, 1] = DEPENDENT[:, 1] / DEPENDENT[:, 1].sum()
    assert chi_square(found.tokens, conditional) < 26.1  # 99.9%, 8 degrees of freedom
    assert (found.set_at[:, 1] == -1).all() and (found.log_prob[:, 1] == 0).all()


def test_log_prob_and_step_are_those_of_a_plain_rerun():
    """The log-probability of a token given the tokens set before its step, and of all of them together the joint's."""
    for steps in (0, 2):
        found = fill(empty(50), sections.Decoding(temperature=1.5, order="random", steps=steps))
        for step in range(3):
            before = jnp.where(found.set_at < step, found.tokens, MASK)
            log_p = jax.nn.log_softmax(tabular(before), axis=-1)
            own = np.take_along_axis(np.asarray(log_p), found.tokens[..., None], axis=-1)[..., 0]
            now = found.set_at == step
            assert (now.sum(1) == {0: 1, 2: 1 + (step == 1) - (step == 2)}[steps]).all()
            np.testing.assert_allclose(found.log_prob[now], own[now], rtol=1e-4, atol=1e-5)
        if steps == 0:
            expected = np.log(DEPENDENT[tuple(found.tokens.T)])
            np.testing.assert_allclose(found.log_prob.sum(1), expected, rtol=1e-3)


def ordered(confidence, entropy_of=None):
    """Predicts, everywhere, how many tokens are set, with a confidence that depends on the position."""

    def predict(tokens):
        top = jax.nn.one_hot((tokens != 9).sum(-1), 9)[:, None]
        other = (1 - jnp.asarray(confidence)) / 8
        return jnp.log(jnp.where(top > 0, jnp.asarray(confidence)[None, :, None], other[None, :, None]))

    return predict


@pytest.mark.parametrize("order", ["confidence", "margin", "entropy"])
def test_the_surest_comes_first_whatever_the_temperature(order):
    canvas = jnp.full((2, 4), 9)
    for temperature in (0.0, 1e-3):  # tempered, all confidences would be 1
        settings = sections.Decoding(temperature=temperature, order=order)
        found = fill(canvas, settings, ordered([0.9, 0.99, 0.8, 0.95]), mask=9)
        np.testing.assert_array_equal(found.tokens, [[2, 0, 3, 1]] * 2)
        np.testing.assert_array_equal(found.set_at, [[2, 0, 3, 1]] * 2)


def test_orders_differ_where_they_should():
    """Places 0, 1, 2: the most confident, the one with the largest margin, the one of least entropy."""
    rows = np.full((3, 5), 1e-6)
    rows[0, :2] = 0.55, 0.45
    rows[1] = 0.54, 0.115, 0.115, 0.115, 0.115
    rows[2, :2] = 0.505, 0.495
    rows[0] = [0.56, 0.42, 0.01, 0.005, 0.005]
    logits = jnp.log(jnp.asarray(rows / rows.sum(1, keepdims=True), jnp.float32))
    first = {}
    for order in ("confidence", "margin", "entropy"):
        found = fill(
            jnp.full((1, 3), 5), sections.Decoding(order=order), lambda t: logits[None] + 0.0 * t[..., None], 0, 5
        )
        first[order] = int(found.set_at[0].argmin())
    assert first == {"confidence": 0, "margin": 1, "entropy": 2}


def test_captions_of_different_length_end_in_one_loop():
    canvas = jnp.array([[9, 9, 9, 9], [9, 7, 9, 7], [7, 7, 7, 7]])
    found = fill(canvas, sections.Decoding(), ordered([0.9] * 4), mask=9)
    np.testing.assert_array_equal(found.tokens, [[0, 1, 2, 3], [2, 7, 3, 7], [7, 7, 7, 7]])


@pytest.mark.parametrize("steps", range(1, 8))
def test_tokens_are_spread_evenly_over_any_number_of_steps(steps):
    lengths = np.array([7, 4, 1, 0])
    canvas = jnp.where(jnp.arange(7)[None] < jnp.asarray(lengths)[:, None], 9, 7)
    found = fill(canvas, sections.Decoding(steps=steps), ordered([0.9] * 7), mask=9)
    for set_at, length in zip(found.set_at, lengths, strict=True):
        sizes = np.bincount(set_at[set_at >= 0], minlength=1)
        assert sizes.sum() == length and len(sizes) == max(min(steps, length), 1)
        assert sizes.max() - sizes.min() <= 1
    assert (found.tokens != 9).all()


def test_a_threshold_reveals_all_above_it_and_at_least_the_best():
    found = fill(jnp.full((1, 5), 9), sections.Decoding(threshold=0.85), ordered([0.9, 0.5, 0.99, 0.6, 0.86]), mask=9)
    np.testing.assert_array_equal(found.set_at, [[0, 2, 0, 1, 0]])


@pytest.mark.parametrize("bound", [0.01, 0.7, 1.4, 3.0, 100.0])
def test_an_entropy_bound_holds_the_sum_of_entropies_without_the_largest(bound):
    confidence = np.array([0.99, 0.95, 0.9, 0.8, 0.6])
    found = fill(
        jnp.full((1, 5), 9), sections.Decoding(entropy_bound=bound, order="entropy"), ordered(confidence), mask=9
    )
    other = (1 - confidence) / 8
    entropy = -confidence * np.log(confidence) - 8 * other * np.log(other)
    left = list(range(5))
    for step in range(int(found.set_at.max()) + 1):
        count = 1
        while count < len(left) and entropy[left[:count]].sum() <= bound:  # the next one is the largest
            count += 1
        np.testing.assert_array_equal(np.flatnonzero(found.set_at[0] == step), left[:count])
        left = left[count:]
    assert not left


def test_remasking_replaces_tokens_and_still_ends_in_time():
    """A constant prediction leaves the last draw; sampling with remasking keeps the distribution of such a model."""
    settings = sections.Decoding(temperature=1.0, order="random", remask=0.4, steps=8)
    found = fill(empty(), settings, functools.partial(tabular, joint=INDEPENDENT))
    assert chi_square(found.tokens, INDEPENDENT) < LIMIT
    assert found.set_at.max() == 7  # more steps than tokens: each has one last time
    assert (found.tokens != MASK).all() and (found.log_prob < 0).all()
    plain = fill(empty(), sections.Decoding(temperature=1.0, order="random", steps=8))
    assert plain.set_at.max() == 2
    # More tokens are set late than without remasking, where three steps of eight would set one each.
    assert (found.set_at >= 6).mean() > 0.4


def test_what_is_masked_again_is_still_seen_by_the_step_that_does_so():
    """The model says how many masks it sees; as many as the step before has left, of 3 tokens in 8 steps."""

    def seen(tokens):
        masks = (tokens == 9).sum(-1, keepdims=True)
        return jax.nn.one_hot(jnp.broadcast_to(masks, tokens.shape), 5)

    settings = sections.Decoding(temperature=0.0, order="random", remask=0.4, steps=8)
    found = fill(jnp.full((500, 3), 9), settings, seen, mask=9)
    left = np.array([3, 3, 3, 2, 2, 2, 1, 1])  # when a step begins
    np.testing.assert_array_equal(found.tokens, left[found.set_at])
    assert {2, 5, 6} & set(found.set_at.ravel().tolist())


def test_remasking_counts():
    set_ = jnp.tile(jnp.array([[True, True, True, True, False, False]]), (2000, 1))
    again = masked._masked_again(jax.random.key(0), set_, jnp.full(2000, 2), 0.3)
    counts = np.asarray(again.sum(1))
    assert not (again & ~set_).any() and set(counts) == {1, 2}
    assert abs(counts.mean() - 1.2) < 0.05
    assert (masked._masked_again(jax.random.key(0), set_, jnp.full(2000, 1), 0.9).sum(1) == 1).all()


def test_a_draw_does_not_depend_on_the_rest_of_the_batch():
    joined = fill(empty(8), SAMPLE).tokens
    other = empty(8).at[4:].set(2)
    np.testing.assert_array_equal(fill(other, SAMPLE).tokens[:4], joined[:4])


def test_logits_are_computed_only_where_a_token_is_masked(monkeypatch):
    """Of 64 rows, chunk by chunk, no more than the masked ones rounded up to a chunk."""
    monkeypatch.setattr(row_chunks, "_least_bytes", lambda: 0)
    rows = []

    def logits(hidden):
        jax.debug.callback(lambda x: rows.append(len(x)), hidden)
        return hidden

    canvas = jnp.full((4, 64), 9).at[:, 20:].set(7)
    found = masked.fill(ordered([0.9] * 64), logits, canvas, canvas == 9, jax.random.key(0), sections.Decoding(steps=2))
    jax.effects_barrier()
    assert (found.tokens != 9).all()
    assert sum(rows) == 96 + 64  # 80 masked rows and 40, in chunks of 32


@pytest.mark.parametrize("settings", [{}, {"threshold": 0.5}, {"entropy_bound": 0.5}], ids=str)
def test_a_model_that_predicts_nan_does_not_decode_for_ever(settings):
    found = fill(empty(2), sections.Decoding(**settings), lambda tokens: jnp.full((*tokens.shape, 3), jnp.nan))
    assert (found.tokens < MASK).all() and (found.set_at >= 0).all()


def test_cut():
    tokens = jnp.array([[5, 1, 7, 1], [5, 6, 7, 8], [1, 1, 0, 9], [0, 5, 6, 1]])
    np.testing.assert_array_equal(
        masked.cut(tokens, eos_id=1, pad_id=0), [[5, 1, 0, 0], [5, 6, 7, 1], [1, 0, 0, 0], [0, 5, 6, 1]]
    )
