"""Each kind of probe against an independent computation."""

import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as ScikitRidge
from sklearn.neighbors import KNeighborsClassifier

from mdc_jax.data.sources.base import Family
from mdc_jax.evaluators import attentive, gradient_probes, knn, probes, recipes
from mdc_jax.evaluators.fitting import Labelled
from mdc_jax.evaluators.logistic import Logistic
from mdc_jax.evaluators.ridge import L2S, Ridge
from mdc_jax.evaluators.scaling import scale

L2_VALUES = 12


def _probe(features, task: probes.Task, recipe, *, refit: bool = False) -> probes.Result:
    return probes.read(probes.attempt(features, task, recipe, refit=refit), task)


def labelled(n: int = 120, d: int = 9, k: int = 3, seed: int = 0, kind: str = "class") -> Labelled:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)).astype(np.float32)
    scores = x @ np.random.default_rng(7).standard_normal((d, k)) + rng.gumbel(size=(n, k))
    y = scores.argmax(1).astype(np.int32) if kind == "class" else (scores > 0).astype(np.uint8)
    return Labelled(x, y, kind, k)


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    rows = dict(zip(probes.SPLITS, np.split(order, [800, 1100]), strict=True))
    labels = {split: y[r].astype(np.int32) for split, r in rows.items()}
    task = probes.make_task(Family("class", tuple("0123456789")), labels)
    return {split: x[r].astype(np.float32) for split, r in rows.items()}, task


@pytest.mark.parametrize("refit", [False, True])
def test_logistic_probes_are_within_three_tenths_of_a_point_of_scikit_learn(digits, refit):
    features, task = digits
    turned = scale(features, "standardised", turned=True)
    result = _probe(turned, task, Logistic(L2_VALUES), refit=refit)
    x, y = scale(features, "standardised"), task.labels

    def model(l2: float, x: np.ndarray, y: np.ndarray) -> LogisticRegression:
        return LogisticRegression(C=1 / (len(x) * l2), max_iter=2_000, tol=1e-6).fit(x, y)

    l2 = result.chosen[0]["l2"]
    trial = next(t for t in result.trials[0] if t.settings["l2"] == l2)
    theirs = model(l2, x["train"], y["train"])
    assert trial.score == pytest.approx(theirs.score(x["validation"], y["validation"]), abs=0.003)
    if refit:
        both = [np.concatenate([part["train"], part["validation"]]) for part in (x, y)]
        theirs = model(l2, *both)
    assert result.interval("accuracy")[0] == pytest.approx(theirs.score(x["test"], y["test"]), abs=0.003)


@pytest.mark.parametrize("kind", ["class", "presence"])
@pytest.mark.parametrize("d", [9, 200])
def test_ridge_agrees_with_scikit_learn(kind, d):
    data = labelled(d=d, kind=kind)
    targets = 2 * data.targets() - 1
    for l2 in (L2S[0], 1.0, 64.0):
        theirs = ScikitRidge(alpha=l2).fit(data.x.astype(np.float64), targets)
        deviation = theirs.predict(data.x) - targets.mean(0)
        prior = data.prior_log_odds() if kind == "presence" else targets.mean(0)
        found = Ridge().fit(data, {"l2": l2})(data.x)
        np.testing.assert_allclose(found, deviation + prior, atol=2e-3)


def test_nearest_neighbours_agree_with_scikit_learn():
    data, other = labelled(n=300), labelled(n=80, seed=1)
    x, new = (scale({"train": part.x}, "normalised")["train"] for part in (data, other))
    data = Labelled(x, data.y, data.kind, data.classes)
    theirs = KNeighborsClassifier(
        n_neighbors=20,
        weights=lambda distance: np.exp((1 - distance**2 / 2) / 0.07),  # DINO's
    ).fit(x, data.y)
    logits = knn.NearestNeighbours().fit(data, {"k": 20})(new)
    np.testing.assert_allclose(np.exp(logits), np.clip(theirs.predict_proba(new), 1e-6, 1), atol=1e-3)


def test_neighbours_vote_on_each_name_of_a_presence_family():
    data = labelled(n=300, kind="presence")
    logits = knn.NearestNeighbours().fit(data, {"k": 10})(data.x)
    similarity = data.x @ data.x.T
    nearest = np.argsort(-similarity, axis=1)[:, :10]
    weight = np.exp(np.take_along_axis(similarity, nearest, axis=1) / knn.TEMPERATURE, dtype=np.float64)
    share = np.einsum("nk,nkc->nc", weight / weight.sum(1, keepdims=True), data.y[nearest])
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), np.clip(share, 1e-6, 1 - 1e-6), atol=1e-4)


def test_neighbours_among_many_are_looked_up_for_few_examples_at_a_time(monkeypatch):
    data, other = labelled(n=20_000), labelled(n=400, seed=1)
    predict = knn.NearestNeighbours().fit(data, {"k": 20})
    expected = predict(other.x)
    monkeypatch.setattr(knn, "_SIMILARITIES", 2**20)
    tracemalloc.start()
    found = predict(other.x)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5 * 12 * 2**20  # a float32 and an int64 of each
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_heads_of_a_grid_are_what_they_would_be_alone(optimizer, monkeypatch):
    monkeypatch.setattr(gradient_probes, "LEAST_STEPS", 40)
    data = labelled(kind="presence")
    rates, decays = np.float32([0.01, 0.05, 0.1]), np.float32([0, 0.1, 1])
    weight, bias = gradient_probes.train(data, optimizer, rates, decays)
    for head in range(3):
        one = slice(head, head + 1)
        alone = gradient_probes.train(data, optimizer, rates[one], decays[one])
        np.testing.assert_allclose(weight[:, one], alone[0], atol=1e-5)
        np.testing.assert_allclose(bias[one], alone[1], atol=1e-5)
    assert np.abs(weight[:, 0]).mean() != pytest.approx(np.abs(weight[:, 2]).mean(), rel=0.1)


@pytest.mark.parametrize(("name", "decay"), [("adamw", 0.3), ("sgd", 0.0)])
def test_a_head_steps_as_optax_alone_would_have_it(name, decay, monkeypatch):
    steps, rate, data = 25, 0.05, labelled(n=300)
    monkeypatch.setattr(gradient_probes, "LEAST_STEPS", steps)
    weight, bias = gradient_probes.train(data, name, np.float32([rate]), np.float32([decay]))
    schedule = optax.cosine_decay_schedule(rate, steps)
    optimizer = optax.adamw(schedule, weight_decay=decay) if name == "adamw" else optax.sgd(schedule, momentum=0.9)
    params = {"weight": jnp.zeros((data.x.shape[1], data.classes)), "bias": jnp.zeros(data.classes)}

    def loss(params, x, y):
        logits = x @ params["weight"] + params["bias"][None]
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1))

    state = optimizer.init(params)
    for rows in gradient_probes.batches(len(data.x), gradient_probes.BATCH, steps, data.seed):
        updates, state = optimizer.update(jax.grad(loss)(params, data.x[rows], data.y[rows]), state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(weight[:, 0], params["weight"], atol=2e-4)
    np.testing.assert_allclose(bias[0], params["bias"], atol=2e-4)


@pytest.mark.parametrize("name", ["adamw", "sgd", "ridge", "knn"])
def test_every_recipe_reads_digits(name, digits):
    features, task = digits
    recipe = recipes.build(name, 0)
    result = _probe(scale(features, recipe.scaling), task, recipe, refit=True)
    assert result.interval("accuracy")[0] > 0.92
    assert len(result.trials[0]) > 3


def test_batches_are_epochs_without_repetition_and_follow_from_the_seed():
    drawn = [rows.tolist() for rows in gradient_probes.batches(10, 3, 7, seed=1)]
    assert len({i for rows in drawn[:3] for i in rows}) == 9
    assert drawn == [rows.tolist() for rows in gradient_probes.batches(10, 3, 7, seed=1)]
    assert drawn[:3] != drawn[3:6]
    assert drawn != [rows.tolist() for rows in gradient_probes.batches(10, 3, 7, seed=2)]


def test_an_attentive_probe_finds_what_no_mean_of_tokens_can_tell(monkeypatch):
    """One token carries a mark and the answer; others carry answers without the mark, so that the mean is balanced."""
    monkeypatch.setattr(attentive, "LEARNING_RATES", (3e-3, 1e-2))
    monkeypatch.setattr(attentive, "LEAST_STEPS", 150)
    rng = np.random.default_rng(0)
    tokens, labels = {}, {}
    for split, n in {"train": 1500, "validation": 200, "test": 400}.items():
        y = rng.integers(0, 2, n)
        x = rng.standard_normal((n, 4, 8)).astype(np.float32) * 0.1
        answers = np.stack([y, 1 - y, 1 - y, y], axis=1)  # in every image two of each
        x[:, :, 0] += 2.0 * (2 * answers - 1)
        x[:, 0, 1] += 4.0
        place = rng.permuted(np.tile(np.arange(4), (n, 1)), axis=1)
        tokens[split], labels[split] = np.take_along_axis(x, place[..., None], axis=1), y.astype(np.int32)
    task = probes.make_task(Family("class", ("no", "yes")), labels)
    found = _probe(tokens, task, attentive.Attentive()).interval("accuracy")[0]
    mean = {split: x.mean(1) for split, x in tokens.items()}
    of_mean = _probe(scale(mean, "standardised", turned=True), task, Logistic()).interval("accuracy")[0]
    assert found > 0.95
    assert of_mean < 0.65


@pytest.mark.parametrize("how", ["raw", "standardised", "normalised"])
@pytest.mark.parametrize("turned", [False, True])
def test_splits_that_are_fitted_together_are_scaled_into_one_array(how, turned):
    rng = np.random.default_rng(0)
    raw = {
        split: rng.standard_normal((n, 8), np.float32) + 1 for split, n in zip(probes.SPLITS, (90, 40, 30), strict=True)
    }
    scaled = scale(raw, how, turned=turned, fitted=("train", "validation"))
    alone = scale(raw, how)
    if how != "raw" or turned:
        np.testing.assert_array_equal(
            scaled["train+validation"], np.concatenate([scaled["train"], scaled["validation"]])
        )
    for split, x in alone.items():  # a rotation keeps lengths and angles
        np.testing.assert_allclose(scaled[split] @ scaled["train"].T, x @ alone["train"].T, atol=1e-4)


@pytest.mark.parametrize("how", ["standardised", "normalised"])
def test_scaling_holds_one_copy_of_the_features(how):
    raw = {"train": np.random.default_rng(0).standard_normal((40_000, 64), np.float32)}
    tracemalloc.start()
    scaled = scale(raw, how, turned=True)["train"]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.4 * raw["train"].nbytes
    gram = scaled.T @ scaled
    assert np.abs(gram - np.diag(gram.diagonal())).max() < 1e-3 * gram.diagonal().max()


def test_probes_that_are_fitted_by_gradients_multiply_in_full_as_logistic_ones_do():
    """By default TPUs multiply in bfloat16 and recent GPUs in TF32: rows of one table would not be on equal terms."""
    x, y, rates = np.ones((8, 5), np.float32), np.zeros(8, np.int32), np.ones(2, np.float32)
    theta = np.zeros((6, 2, 3), np.float32)
    steps = [
        gradient_probes._step.lower(
            theta, gradient_probes._transform(name).init(theta), x, y, rates, rates, kind="class", optimizer=name
        )
        for name in ("adamw", "sgd")
    ]
    tokens, module = np.ones((8, 4, 6), np.float32), attentive.AttentivePooling(3)
    params, state = jax.eval_shape(lambda x: attentive._init(jax.random.key(0), x, module=module), tokens[:1])
    steps.append(attentive._step.lower(params, state, tokens, y, np.float32(0.1), module=module, kind="class"))
    steps.append(attentive._apply.lower(params, tokens, module=module))
    for step in steps:
        products = [line for line in step.as_text().splitlines() if "dot_general" in line]
        assert products and all("precision = [HIGHEST, HIGHEST]" in line for line in products)
