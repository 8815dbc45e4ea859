import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdc_jax.config import sections
from mdc_jax.decoding import autoregressive

PAD, EOS, START = 0, 1, 4
# First token, then the next one given the last: over PAD, EOS, two words.
FIRST = np.array([0.3, 0.0, 0.42, 0.28])
NEXT = np.array([[1, 0, 0, 0], [1, 0, 0, 0], [0.5, 0.2, 0.2, 0.1], [0.5, 0.1, 0.05, 0.35], FIRST])
ENDS = {"start_id": START, "eos_id": EOS, "pad_id": PAD}


def predict(before, place, kept):
    return jnp.log(jnp.asarray(NEXT, jnp.float32))[before], kept


def decode(batch, settings):
    run = jax.jit(lambda key: autoregressive.decode(predict, (), batch, 3, key, settings, **ENDS))
    return jax.device_get(run(jax.random.key(0)))


def test_greedy_takes_the_likeliest_word_and_ends_at_the_last_place():
    tokens, log_prob = decode(2, sections.Decoding())
    np.testing.assert_array_equal(tokens, [[2, 1, 0]] * 2)
    np.testing.assert_allclose(log_prob, [[np.log(0.42), np.log(0.2), 0]] * 2, rtol=1e-5)


def test_samples_have_the_models_distribution_without_pads():
    first, following = FIRST[2:] / FIRST[2:].sum(), NEXT[2:4, 1:] / NEXT[2:4, 1:].sum(1, keepdims=True)
    expected = {(w + 2, 1, 0): first[w] * following[w, 0] for w in (0, 1)}
    expected |= {(w + 2, v + 2, 1): first[w] * following[w, v + 1] for w in (0, 1) for v in (0, 1)}
    tokens, _ = decode(20_000, sections.Decoding(temperature=1.0))
    captions, counts = np.unique(tokens, axis=0, return_counts=True)
    assert {tuple(caption) for caption in captions.tolist()} == set(expected)
    share = np.array([expected[tuple(caption)] for caption in captions.tolist()])
    chi_square = np.sum((counts - 20_000 * share) ** 2 / (20_000 * share))
    assert chi_square < 20.5  # 99.9%, 5 degrees of freedom


def test_top_p():
    tokens, _ = decode(500, sections.Decoding(temperature=1.0, top_p=0.5))
    assert (tokens[:, 0] == 2).all()


WORDS, LENGTH = 4, 5  # words, besides PAD and EOS; places


def history_model(seed):
    """Log-probabilities that depend on all tokens before, which the model itself keeps: i32[B, K, L] as kept."""
    table = np.random.default_rng(seed).normal(size=(LENGTH, 1000, WORDS + 2)) * 2

    def logits(before, place):
        code = before @ (7 ** np.arange(LENGTH)) % 1000
        return jnp.asarray(table, jnp.float32)[place, code]

    def predict(token, place, kept):
        at = jnp.arange(LENGTH)[None, None] == place - 1
        kept = jnp.where(at, token[..., None], kept)
        return logits(kept, place), kept

    return predict, logits


def likeliest(logits):
    """The caption of highest probability, of all there are."""
    found = {}
    for n in range(1, LENGTH + 1):
        for words in itertools.product(range(2, WORDS + 2), repeat=n - 1):
            caption = [*words, EOS]
            total = 0.0
            for place, token in enumerate(caption):
                before = np.zeros(LENGTH, int)
                before[:place] = caption[:place]
                total += float(jax.nn.log_softmax(logits(before, place))[token])
            found[tuple(caption)] = total
    best = max(found, key=found.get)
    return best, found[best]


def beam(predict, beams):
    def run():
        return autoregressive.search(
            predict,
            lambda kept, chosen: jnp.take_along_axis(kept, chosen[..., None], axis=1),
            jnp.zeros((1, beams, LENGTH), jnp.int32),
            (1, beams),
            LENGTH,
            **ENDS,
        )

    tokens, log_prob = jax.device_get(jax.jit(run)())
    return tokens[0], log_prob[0]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_wide_beam_finds_what_exhaustive_search_finds(seed):
    predict, logits = history_model(seed)
    best, log_prob = likeliest(logits)
    tokens, own = beam(predict, 2 * WORDS ** (LENGTH - 1))
    np.testing.assert_array_equal(tokens[: len(best)], best)
    assert not tokens[len(best) :].any() and not own[len(best) :].any()
    np.testing.assert_allclose(own.sum(), log_prob, rtol=1e-4)


def test_one_beam_is_greedy_and_more_beams_find_nothing_less_likely():
    predict, _ = history_model(3)
    start = jnp.zeros((1, 1, LENGTH), jnp.int32)
    greedy, log_prob = autoregressive.decode(predict, start, 1, LENGTH, jax.random.key(0), **ENDS)
    tokens, own = beam(predict, 1)
    np.testing.assert_array_equal(tokens, greedy[0])
    np.testing.assert_allclose(own, log_prob[0], rtol=1e-5)
    assert beam(predict, 8)[1].sum() >= own.sum() - 1e-5
