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


def test_from_right_to_left_is_the_same_of_captions_whose_words_are_reversed():
    other = tiny.build(sections.Autoregressive(order="right_to_left"))
    params, batch = tiny.trained(OBJECTIVE), tiny.batch(4)
    turned = {**batch, "text": batch["text"].copy()}
    for text, length in zip(turned["text"][:, 0], turned["length"][:, 0], strict=True):
        text[: length - 1] = text[: length - 1][::-1].copy()
    losses = [o.loss(params, o.corrupt(b, jax.random.key(0)))[0] for o, b in ((OBJECTIVE, turned), (other, batch))]
    assert losses[0] == losses[1] != OBJECTIVE.loss(params, OBJECTIVE.corrupt(batch, jax.random.key(0)))[0]
    features = OBJECTIVE.encode(params, batch["image"])
    scores = [
        jax.jit(o.scorers["autoregressive"])(params, features, b, jax.random.key(0)).value
        for o, b in ((OBJECTIVE, turned), (other, batch))
    ]
    np.testing.assert_array_equal(*scores)
    nats = [
        jax.jit(o.token_losses)(params, features, b, jax.random.key(0))[0][:, 0]
        for o, b in ((OBJECTIVE, turned), (other, batch))
    ]
    forward, backward = (jax.jit(o.generate)(params, features, jax.random.key(0)) for o in (OBJECTIVE, other))
    looks = [jax.jit(o.attention)(params, features, c) for o, c in ((OBJECTIVE, forward), (other, backward))]
    for row, length in enumerate(batch["length"][:, 0]):
        np.testing.assert_allclose(nats[0][row, : length - 1], nats[1][row, : length - 1][::-1], rtol=1e-5)
    for row, words in enumerate(np.asarray(forward.tokens == 1).argmax(1)):
        for here, there in zip(
            (forward.tokens, forward.step, forward.log_prob, looks[0]),
            (backward.tokens, backward.step, backward.log_prob, looks[1]),
            strict=True,
        ):
            np.testing.assert_array_equal(here[row, :words], there[row, :words][::-1])
            np.testing.assert_array_equal(here[row, words:], there[row, words:])
