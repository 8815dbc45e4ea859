import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mdc_jax.config import sections
from mdc_jax.data.batch import EOS_ID, PAD_ID
from tests.objectives import tiny

each_padding = pytest.mark.parametrize("padding", ["hidden", "target", "known"])


def log_probabilities(objective, params, features, inputs, mask=None):
    """log p(token) of one text and one image, f32[L, V], without the objective's own loss."""
    hidden = objective.decoder.apply({"params": params["decoder"]}, inputs[None, None], features["tokens"], mask)[0, 0]
    head = params["decoder"]["head"]
    return jax.nn.log_softmax(hidden @ head["kernel"] + head["bias"][None])


@each_padding
def test_what_the_decoder_is_shown(padding):
    objective = tiny.build(sections.MaskedDiffusion(padding=padding, interval=(0.5, 0.5), masks_per_caption=2))
    batch = tiny.batch(500)
    seen = jax.jit(objective.corrupt_text)(batch["text"], batch["length"], jax.random.key(0))
    text = np.repeat(batch["text"], 2, axis=1)
    real = text != PAD_ID
    inputs, predicted = np.asarray(seen["inputs"]), np.asarray(seen["predicted"])
    np.testing.assert_array_equal(seen["targets"], text)
    assert (inputs[predicted] == objective.mask_id).all()
    assert predicted.any(-1).all()
    assert predicted[text == EOS_ID].any()  # EOS is a target like any other
    if padding == "target":
        np.testing.assert_array_equal(inputs[~predicted], text[~predicted])
        assert predicted[~real].any()
    else:
        assert not predicted[~real].any()
        assert (inputs[~real] == objective.mask_id).all()
        np.testing.assert_array_equal(inputs[real & ~predicted], text[real & ~predicted])


def word_starts():
    """Tokens below 7 start a word."""
    return np.arange(tiny.VOCAB) < 7


def test_words_are_masked_whole_and_every_token_weighs_the_same_in_expectation():
    """On [0, 1] a token is masked with probability t and weighs 1/t: 1 of n in all, whatever word it is part of."""
    objective = tiny.build(sections.MaskedDiffusion(mask_words=True, interval=(0.0, 1.0)), word_starts)
    size = 20_000
    text = np.tile(np.array([9, 3, 8, 7, EOS_ID, PAD_ID], np.int32), (size, 1, 1))
    seen = jax.jit(objective.corrupt_text)(text, np.full((size, 1), 5), jax.random.key(0))
    predicted = np.asarray(seen["predicted"])[:, 0]
    words = predicted[:, [0, 1, 4]]
    np.testing.assert_array_equal(predicted[:, :5], words[:, [0, 1, 1, 1, 2]])
    assert not predicted[:, 5].any()
    assert len(np.unique(words, axis=0)) == 7  # every set of words but none
    weighed = predicted[:, :5] * np.asarray(seen["token_weight"])
    assert (abs(weighed.mean(0) - 1 / 5) < 5 * weighed.std(0) / size**0.5).all()


@pytest.mark.parametrize("padding", ["hidden", "known"])
def test_an_eos_that_is_never_masked_is_shown_and_no_target(padding):
    objective = tiny.build(sections.MaskedDiffusion(mask_eos=False, padding=padding, interval=(1.0, 1.0)))
    batch = tiny.batch(200)
    seen = jax.jit(objective.corrupt_text)(batch["text"], batch["length"], jax.random.key(0))
    text = batch["text"]
    words = (text != PAD_ID) & (text != EOS_ID)
    np.testing.assert_array_equal(seen["predicted"], words)
    np.testing.assert_array_equal(seen["inputs"], np.where(text == EOS_ID, EOS_ID, objective.mask_id))
    # A caption is normalised by what can be masked; one that is empty but for EOS has no loss.
    np.testing.assert_allclose(seen["token_weight"] * np.maximum(words.sum(-1), 1), batch["length"] > 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"mask_eos": False}, "mask_eos=False"), ({"mask_words": True}, "mask_words=True")],
)
def test_what_leaves_no_law_of_lengths_scores_words_given_the_length(settings, said):
    """The score is that of `known` but for who attends to pads: no term of the length."""
    objective, hidden = (tiny.build(sections.MaskedDiffusion(**s)) for s in (settings, {}))
    params, batch = tiny.trained(hidden), tiny.batch(3)
    features = hidden.encode(params, batch["image"])
    captions = {key: jnp.asarray(batch[key]) for key in ("text", "length")}
    found, with_length = (
        o.scorers["one_pass"](params, features, captions, jax.random.key(0)) for o in (objective, hidden)
    )
    law = np.take_along_axis(np.asarray(hidden.length_law(params, features)), batch["length"] - 1, axis=1)
    np.testing.assert_allclose(found.value + law, with_length.value, rtol=1e-4)
    with pytest.raises(ValueError, match=f"{said} has no length law: give `length`"):
        objective.length_law(params, features)
    with pytest.raises(ValueError, match=rf"objective\.{said} has no length law: set decoding\.length="):
        objective.generate(params, features, jax.random.key(0))
    written = objective.generate(params, features, jax.random.key(0), length=jnp.array([3, 4, 6]))
    np.testing.assert_array_equal((written.tokens != PAD_ID).sum(-1), [3, 4, 6])


@each_padding
def test_the_whole_loss_at_ratio_1_is_the_mean_cross_entropy_of_captions_that_are_all_mask(padding):
    """Parallel captioning is masked diffusion on [1, 1]."""
    objective = tiny.build(sections.MaskedDiffusion(padding=padding, interval=(1.0, 1.0)))
    params, batch = tiny.trained(objective), tiny.batch(3)
    loss, metrics = objective.loss(params, objective.corrupt(batch, jax.random.key(0)))
    features = objective.encode(params, batch["image"])
    expected, right = [], []
    for i in range(3):
        n = int(batch["length"][i, 0])
        mask = (jnp.arange(tiny.TOKENS) < n)[None, None, None] if padding == "known" else None
        one = {"tokens": features["tokens"][i : i + 1]}
        logp = log_probabilities(objective, params, one, jnp.full(tiny.TOKENS, objective.mask_id), mask)
        text = batch["text"][i, 0]
        shown = tiny.TOKENS if padding == "target" else n
        expected.append(-np.mean([logp[j, text[j]] for j in range(shown)]))
        right.append(np.mean([logp[j].argmax() == text[j] for j in range(shown)]))
    np.testing.assert_allclose(loss, np.mean(expected), rtol=1e-4)
    np.testing.assert_allclose(metrics["accuracy"], np.mean(right), rtol=1e-5)
    np.testing.assert_allclose(metrics["masked_share"], 1, rtol=1e-6)


def test_at_one_ratio_it_is_a_masked_language_model():
    """The loss of [r, r] is the mean, over the masks, of the mean cross-entropy over the masked tokens."""
    objective = tiny.build(sections.MaskedDiffusion(interval=(0.4, 0.4), masks_per_caption=3))
    params = tiny.trained(objective)
    corrupted = objective.corrupt(tiny.batch(5), jax.random.key(0))
    counts = np.asarray(corrupted["predicted"]).sum(-1)
    np.testing.assert_allclose(corrupted["token_weight"] * counts, 1 / 3, rtol=1e-5)
    _, metrics = objective.loss(params, corrupted)
    assert 0.4 < metrics["masked_share"] < 0.9


def test_the_masked_share_is_that_of_the_captions_that_are_there():
    objective = tiny.build(sections.MaskedDiffusion(masks_per_caption=2))
    batch = tiny.batch(8, captions=2)
    batch["length"][::2, 1], batch["text"][::2, 1] = 0, PAD_ID
    corrupted = objective.corrupt(batch, jax.random.key(0))
    length = np.tile(batch["length"], (1, 2))
    share = np.asarray(corrupted["predicted"]).sum(-1) / np.maximum(length, 1)
    expected = [row[there > 0].mean() for row, there in zip(share, length, strict=True)]
    np.testing.assert_allclose(corrupted["masked_share"], expected, rtol=1e-6)


@pytest.mark.slow
def test_the_loss_does_not_depend_on_schedule_or_kind_of_mask_in_expectation():
    values = []
    for schedule, masks in (("linear", "bernoulli"), ("sine", "size_biased"), ("quadratic", "stratified")):
        settings = sections.MaskedDiffusion(schedule=schedule, masks=masks, interval=(0.0, 1.0), masks_per_caption=8)
        objective = tiny.build(settings)
        params = tiny.trained(objective)
        batch = tiny.batch(1000)
        batch["image"][:], batch["text"][:], batch["length"][:] = batch["image"][:1], [[3, 4, 5, 6, 1, 0]], 5
        loss = jax.jit(lambda key, o=objective, b=batch, p=params: o.loss(p, o.corrupt(b, key))[0])
        draws = [float(loss(jax.random.key(i))) for i in range(4)]
        values.append((np.mean(draws), np.std(draws) / 2))
    (reference, error), *others = values
    for value, other in others:
        assert abs(value - reference) < 5 * np.hypot(error, other) + 0.01 * reference


@each_padding
def test_the_elbo_agrees_with_enumeration_over_all_masks(padding):
    objective = tiny.build(sections.MaskedDiffusion(padding=padding))
    params, batch = tiny.trained(objective), tiny.batch(1)
    text, n = np.array([5, 7, 4, EOS_ID, PAD_ID, PAD_ID]), 4
    features = objective.encode(params, batch["image"])
    targets = tiny.TOKENS if padding == "target" else n - 1
    mask = (jnp.arange(tiny.TOKENS) < n)[None, None, None] if padding == "known" else None

    @jax.jit
    def masked_nll(masked):
        shown = text if padding == "target" else np.where(np.arange(tiny.TOKENS) < n, text, objective.mask_id)
        logp = log_probabilities(objective, params, features, jnp.where(masked, objective.mask_id, shown), mask)
        if padding != "target":  # a word is neither EOS nor PAD
            logp = jax.nn.log_softmax(logp.at[:, [EOS_ID, PAD_ID]].set(-jnp.inf))
        return -jnp.sum(jnp.where(masked, logp[np.arange(tiny.TOKENS), text], 0))

    expected = 0.0
    for size in range(1, targets + 1):
        sets = list(itertools.combinations(range(targets), size))
        for chosen in sets:
            masked = np.isin(np.arange(tiny.TOKENS), chosen)
            expected -= float(masked_nll(masked)) / size / len(sets)
    if padding == "hidden":
        expected += float(objective.length_law(params, features)[0, n - 1])
    copies = jax.tree.map(lambda x: jnp.repeat(x, 200, axis=x.ndim == 4), dict(features))
    captions = {"text": np.tile(text, (200, 1, 1)), "length": np.full((200, 1), n)}
    score = jax.jit(objective.scorers["elbo"])(params, copies, captions, jax.random.key(0))
    assert score.kind == "bound"
    assert abs(score.value.mean() - expected) < 4 * score.value.std() / 200**0.5 + 1e-4


@each_padding
def test_other_estimators_agree_with_sums_over_masks(padding):
    """One image and one caption; each mask is scored by itself."""
    objective = tiny.build(sections.MaskedDiffusion(padding=padding))
    params, batch = tiny.trained(objective), tiny.batch(1)
    text, n = np.array([5, 7, 4, EOS_ID, PAD_ID, PAD_ID]), 4
    captions = {"text": jnp.asarray(text)[None, None], "length": jnp.full((1, 1), n)}
    features = objective.encode(params, batch["image"])
    targets = tiny.TOKENS if padding == "target" else n - 1
    length = float(objective.length_law(params, features)[0, n - 1]) if padding == "hidden" else 0.0
    predict = jax.jit(objective._reading(params, features, captions).predict)

    def of(chosen):
        nll, likeliest = predict(jnp.asarray(np.isin(np.arange(tiny.TOKENS), chosen))[None, None])
        return np.asarray(nll)[0, 0], np.asarray(likeliest)[0, 0]

    hidden, greedy = list(range(targets)), 0.0
    while hidden:
        nll, likeliest = of(hidden)
        place = min(hidden, key=lambda place: likeliest[place])
        greedy -= nll[place]
        hidden.remove(place)
    expected = {
        "one_pass": -of(range(targets))[0].sum(),
        "pseudo_log_likelihood": -sum(of([place])[0].sum() for place in range(targets)),
        "greedy_reveal": greedy,
    }
    for name, value in expected.items():
        score = jax.jit(objective.scorers[name])(params, features, captions, jax.random.key(0))
        np.testing.assert_allclose(score.value, [[value + length]], rtol=1e-4)


def test_the_interval_of_training_is_a_scorer_where_it_is_not_the_whole():
    names = {"elbo", "one_pass", "pseudo_log_likelihood", "greedy_reveal"}
    assert set(tiny.build(sections.MaskedDiffusion(interval=(0.0, 1.0))).scorers) == names
    assert set(tiny.build(sections.MaskedDiffusion()).scorers) == names | {"training_interval"}
    assert set(tiny.build(sections.MaskedLM()).scorers) == names | {"training_interval"}


def test_losses_by_masked_share_average_to_the_bound():
    """Where a draw lies in each of n equal parts of the shares, its mean over parts is the negative ELBO per token."""
    objective = tiny.build(sections.MaskedDiffusion(padding="known"))
    params, batch = tiny.trained(objective), tiny.batch(1)
    text, n = np.array([5, 7, 4, 8, 6, EOS_ID]), 6
    features = objective.encode(params, batch["image"])
    copies = {"tokens": jnp.repeat(features["tokens"], 400, axis=0)}
    captions = {"text": np.tile(text, (400, 1, 1)), "length": np.full((400, 1), n)}
    losses = jax.jit(lambda key: objective.masked_losses(params, copies, captions, key, draws=n - 1))
    nats, masked, maskable = map(np.asarray, losses(jax.random.key(0)))
    np.testing.assert_array_equal(masked, np.broadcast_to(np.arange(1, n), masked.shape))
    np.testing.assert_array_equal(maskable, n - 1)
    score = jax.jit(objective.scorers["elbo"])(params, copies, captions, jax.random.key(1))
    estimate = (n - 1) * (nats / masked).mean(-1)[:, 0]
    error = np.hypot(estimate.std() / 20, score.value.std() / 20)
    assert abs(estimate.mean() + score.value.mean()) < 4 * error


def test_the_length_law_is_a_distribution_and_needs_hidden_lengths():
    objective = tiny.build(sections.MaskedDiffusion())
    params = tiny.trained(objective)
    features = objective.encode(params, tiny.batch(5)["image"])
    np.testing.assert_allclose(jnp.exp(objective.length_law(params, features)).sum(-1), 1, rtol=1e-5)
    for padding in ("known", "target"):
        objective = tiny.build(sections.MaskedDiffusion(padding=padding))
        with pytest.raises(ValueError, match=f'padding="{padding}" has no length law: give `length`'):
            objective.length_law(params, features)
    with pytest.raises(ValueError, match="has no length law"):
        tiny.build(sections.MaskedDiffusion(padding="known")).generate(params, features, jax.random.key(0))


@pytest.mark.slow
def test_it_learns_captions_and_writes_them():
    """One image, two captions of different length: the length law and the words come out."""
    objective = tiny.build(sections.MaskedDiffusion(interval=(0.2, 1.0)))
    image = np.zeros((32, tiny.SIZE, tiny.SIZE, 3), np.uint8)
    text = np.where(np.arange(32)[:, None] < 24, [[3, 4, 1, 0, 0, 0]], [[5, 6, 7, 8, 1, 0]]).astype(np.int32)
    batch = {"image": image, "text": text[:, None], "length": (text != 0).sum(1)[:, None], "_mask": np.ones(32, bool)}
    optimizer = optax.adam(1e-2)

    @jax.jit
    def train(params):
        def step(carry, key):
            params, state = carry
            grads = jax.grad(lambda p: objective.loss(p, objective.corrupt(batch, key))[0])(params)
            updates, state = optimizer.update(grads, state)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, optimizer.init(params)), jax.random.split(jax.random.key(1), 300))[0][0]

    params = train(objective.init(jax.random.key(0)))
    features = objective.encode(params, np.zeros((400, tiny.SIZE, tiny.SIZE, 3), np.uint8))
    law = np.exp(objective.length_law(params, jax.tree.map(lambda x: x[:1], {"tokens": features["tokens"]}))[0])
    np.testing.assert_allclose(law, [0, 0, 0.75, 0, 0.25, 0], atol=0.08)
    exact = sections.Decoding(temperature=1.0, order="random")
    written = jax.jit(lambda key: objective.generate(params, features, key, exact))
    captions, counts = np.unique(written(jax.random.key(0)).tokens, axis=0, return_counts=True)
    share = {tuple(caption): count / 400 for caption, count in zip(captions.tolist(), counts, strict=True)}
    assert abs(share[3, 4, 1, 0, 0, 0] - 0.75) < 0.13
    assert abs(share[5, 6, 7, 8, 1, 0] - 0.25) < 0.13
    greedy = jax.jit(objective.generate)(params, {"tokens": features["tokens"][:1]}, jax.random.key(0))
    np.testing.assert_array_equal(greedy.tokens, [[3, 4, 1, 0, 0, 0]])
