import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdc_jax.config import sections
from mdc_jax.data.batch import EOS_ID, PAD_ID
from tests.objectives import tiny

PARALLEL = tiny.build(sections.Parallel())


def log_probabilities(objective, params, memory, inputs):
    """log p(token) for texts i32[T, L] of one image [N, D], f32[T, L, V], without the objective's own loss."""
    hidden = objective.decoder.apply({"params": params["decoder"]}, inputs[None], memory[None])[0]
    head = params["decoder"]["head"]
    return np.asarray(jax.nn.log_softmax(hidden @ head["kernel"] + head["bias"][None, None]), np.float64)


@pytest.mark.parametrize(
    ("fixed", "diffusion"),
    [
        (
            sections.MaskedLM(ratio=0.3, null_image_rate=0.5),
            sections.MaskedDiffusion(interval=(0.3, 0.3), null_image_rate=0.5),
        ),
        (
            sections.MaskedLM(ratio=0.6, masks="bernoulli", masks_per_caption=2, padding="target"),
            sections.MaskedDiffusion(interval=(0.6, 0.6), masks="bernoulli", masks_per_caption=2, padding="target"),
        ),
        (sections.MaskedLM(ratio=1.0), sections.MaskedDiffusion(interval=(1.0, 1.0))),
        (sections.Parallel(), sections.MaskedDiffusion(interval=(1.0, 1.0))),
    ],
)
def test_it_is_masked_diffusion_at_one_ratio(fixed, diffusion):
    ours, reference = tiny.build(fixed), tiny.build(diffusion)
    params, batch, key = tiny.trained(ours), tiny.batch(6), jax.random.key(1)
    jax.tree.map(np.testing.assert_array_equal, ours.corrupt(batch, key), reference.corrupt(batch, key))
    assert ours.loss(params, ours.corrupt(batch, key))[0] == reference.loss(params, reference.corrupt(batch, key))[0]


def test_parallel_shows_nothing_of_the_text_nor_of_its_length():
    corrupted = PARALLEL.corrupt(tiny.batch(32), jax.random.key(0))
    assert (corrupted["inputs"] == PARALLEL.mask_id).all()
    assert PARALLEL.attention_mask(corrupted) is None


def all_captions(length):
    """Every text of `length` tokens, EOS included, over all words of the vocabulary."""
    words = [token for token in range(tiny.VOCAB) if token not in (EOS_ID, PAD_ID)]
    texts = np.full((len(words) ** (length - 1), tiny.TOKENS), PAD_ID, np.int32)
    texts[:, : length - 1] = list(itertools.product(words, repeat=length - 1))
    texts[:, length - 1] = EOS_ID
    return texts


def test_parallel_scores_are_a_distribution_over_captions_of_every_length():
    params = tiny.trained(PARALLEL)
    features = PARALLEL.encode(params, tiny.batch(1)["image"])
    score = jax.jit(PARALLEL.scorers["parallel"])
    law = np.exp(PARALLEL.length_law(params, features))[0]
    for length in (1, 2, 3, 4):
        texts = all_captions(length)[None]
        captions = {"text": texts, "length": np.full(texts.shape[:2], length)}
        found = score(params, features, captions, jax.random.key(0))
        assert found.kind == "exact"
        np.testing.assert_allclose(np.exp(np.asarray(found.value, np.float64)).sum(), law[length - 1], rtol=1e-4)


def test_parallel_captions_are_written_in_one_pass_and_are_the_likeliest():
    params = tiny.trained(PARALLEL)
    features = PARALLEL.encode(params, tiny.batch(3)["image"])
    written = np.asarray(jax.jit(PARALLEL.generate)(params, features, jax.random.key(0)).tokens)
    length = 1 + np.asarray(PARALLEL.length_law(params, features)).argmax(-1)
    empty = np.full((1, tiny.TOKENS), PARALLEL.mask_id)
    for i in range(3):
        logp = log_probabilities(PARALLEL, params, features["tokens"][i], empty)[0].copy()
        logp[:, [EOS_ID, PAD_ID]] = -np.inf
        np.testing.assert_array_equal(written[i, : length[i] - 1], logp.argmax(-1)[: length[i] - 1])
        assert written[i, length[i] - 1] == EOS_ID


def test_parallel_draws_follow_its_own_likelihood():
    params, draws = tiny.trained(PARALLEL), 20_000
    features = PARALLEL.encode(params, tiny.batch(1)["image"])
    copies = {"tokens": jnp.repeat(features["tokens"], draws, axis=0)}
    generate = jax.jit(lambda key: PARALLEL.generate(params, copies, key, sections.Decoding(temperature=1.0)))
    texts, counts = np.unique(generate(jax.random.key(0)).tokens, axis=0, return_counts=True)
    length = (texts == EOS_ID).argmax(-1) + 1
    captions = {"text": texts[None], "length": length[None]}
    probability = np.exp(PARALLEL.scorers["parallel"](params, features, captions, jax.random.key(0)).value[0])
    common = probability > 0.005
    assert common.sum() > 5
    error = np.sqrt(probability * (1 - probability) / draws)
    assert (np.abs(counts / draws - probability) < 5 * error)[common].all()
