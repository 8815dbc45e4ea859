import jax
import jax.numpy as jnp
import numpy as np

from mdc_jax.config import sections
from tests.objectives import tiny

OBJECTIVE = tiny.build(sections.Autoregressive())


def by_hand(params, batch):
    """-log p of every real token, from texts cut before it: nothing behind a token can be seen."""
    tokens = OBJECTIVE.encode(params, batch["image"])["tokens"]
    head = params["decoder"]["head"]
    causal = jnp.tri(tiny.TOKENS, dtype=bool)[None, None]
    read = jax.jit(lambda text, memory: OBJECTIVE.decoder.apply({"params": params["decoder"]}, text, memory, causal))
    result = []
    for image, (text, length) in enumerate(zip(batch["text"][:, 0], batch["length"][:, 0], strict=True)):
        nll = []
        for i in range(length):
            before = np.full(tiny.TOKENS, 9, np.int32)  # something, wherever it must not matter
            before[0], before[1 : i + 1] = tiny.VOCAB, text[:i]
            hidden = read(before[None, None], tokens[image : image + 1])[0, 0, i]
            scores = np.asarray(hidden @ head["kernel"] + head["bias"], np.float64)
            nll.append(np.log(np.exp(scores).sum()) - scores[text[i]])
        result.append(nll)
    return result


def test_loss_and_score_are_those_of_token_by_token_prediction():
    params, batch = tiny.trained(OBJECTIVE), tiny.batch(3)
    expected = by_hand(params, batch)
    loss, _ = OBJECTIVE.loss(params, OBJECTIVE.corrupt(batch, jax.random.key(0)))
    np.testing.assert_allclose(loss, np.mean([np.mean(nll) for nll in expected]), rtol=1e-5)
    features = OBJECTIVE.encode(params, batch["image"])
    score = jax.jit(OBJECTIVE.scorers["autoregressive"])(params, features, batch, jax.random.key(0))
    assert score.kind == "exact"
    np.testing.assert_allclose(score.value[:, 0], [-np.sum(nll) for nll in expected], rtol=1e-5)
    assert not score.standard_error.any()


def test_greedy_captions_are_the_likeliest_token_after_token():
    params, batch = tiny.trained(OBJECTIVE), tiny.batch(4)
    features = OBJECTIVE.encode(params, batch["image"])
    tokens = jax.jit(OBJECTIVE.generate)(params, features, jax.random.key(0)).tokens
    inputs = jnp.concatenate([jnp.full((4, 1), tiny.VOCAB), tokens[:, :-1]], axis=1)[:, None]
    causal = jnp.tri(tiny.TOKENS, dtype=bool)[None, None]
    hidden = OBJECTIVE.decoder.apply({"params": params["decoder"]}, inputs, features["tokens"], causal)[:, 0]
    head = params["decoder"]["head"]
    best = 1 + (hidden @ head["kernel"] + head["bias"][None, None])[..., 1:].argmax(-1)  # PAD is not written
    for caption, likeliest in zip(np.asarray(tokens), np.asarray(best), strict=True):
        written = min(int((caption == 1).argmax()) + 1, tiny.TOKENS - 1)
        np.testing.assert_array_equal(caption[:written], likeliest[:written])
