import numpy as np
import pytest

from mdc_jax.data.sources.base import Family
from mdc_jax.evaluators import logistic, probes, solvers
from mdc_jax.evaluators.fitting import Fitted, choose
from mdc_jax.evaluators.logistic import Logistic
from mdc_jax.evaluators.scaling import scale

COUNTS = {"train": 400, "validation": 200, "test": 300}


def heads(l2: float) -> solvers.Heads:
    return solvers.Heads(np.zeros((1, 1)), np.zeros(1), l2, None)


def probe(layers: list, task: probes.Task, recipe, *, refit: bool = False) -> probes.Result:
    """Layer after layer."""
    tried = None
    for number, features in enumerate(layers, 1):
        tried = probes.attempt(features, task, recipe, tried, layer=number, refit=refit)
    return probes.read(tried, task)


def search(fit, score) -> tuple[float, bool]:
    """The L2 that is chosen, and whether it lies at the edge of those that were tried."""
    found = ((Fitted({"l2": h.l2}, h.logits), value) for h, value in logistic.search(fit, score))
    best, _, _, at_edge = choose(found)
    return best.settings["l2"], at_edge


@pytest.mark.parametrize("optimum", [1e2, 1.0, 1e-3, 1e-5])
def test_the_search_for_l2_goes_on_until_the_optimum_lies_inside(optimum):
    tried = []

    def fit(l2: float, start: solvers.Heads | None) -> solvers.Heads:
        tried.append(l2)
        return heads(l2)

    best, at_edge = search(fit, lambda h: -abs(np.log10(h.l2 / optimum)))
    assert best == pytest.approx(optimum)
    assert not at_edge
    assert min(tried) < optimum * 0.5
    assert max(tried) > optimum * 2 or optimum < logistic.FIRST_L2


@pytest.mark.parametrize("sign, limit", [(1, logistic.LIMITS[1]), (-1, logistic.LIMITS[0])])
def test_an_optimum_at_the_limit_ends_the_search_and_is_told(sign, limit):
    best, at_edge = search(lambda l2, start: heads(l2), lambda h: sign * h.l2)
    assert best == pytest.approx(limit)
    assert at_edge


def test_equal_scores_keep_the_first_value():
    best, at_edge = search(lambda l2, start: heads(l2), lambda h: 1.0)
    assert (best, at_edge) == (logistic.FIRST_L2, False)


def by_split(make) -> dict[str, np.ndarray]:
    return {split: make(count) for split, count in COUNTS.items()}


def test_a_linear_label_is_found_and_a_random_one_is_not():
    rng = np.random.default_rng(0)
    raw = by_split(lambda n: rng.standard_normal((n, 20)).astype(np.float32) * 5 + 3)
    features = scale(raw, "standardised", turned=True)
    family = Family("presence", ("sum", "random"))
    labels = {
        split: np.stack([x[:, :3].sum(1) > 9, rng.random(len(x)) < 0.4], axis=1).astype(np.uint8)
        for split, x in raw.items()
    }
    for name, expected in ((0, 1.0), (1, 0.5)):
        one = Family("presence", family.names[name : name + 1])
        result = probe(
            [features], probes.make_task(one, {s: y[:, name : name + 1] for s, y in labels.items()}), Logistic()
        )
        value, low, high = result.interval("auc")
        assert low - 0.02 <= expected <= high + 0.02
        assert low <= value <= high


@pytest.mark.parametrize("fitted", [("train",), ("train", "validation")])
def test_class_probe_leaves_out_examples_without_a_label(fitted):
    rng = np.random.default_rng(1)
    raw = by_split(lambda n: rng.standard_normal((n, 5)).astype(np.float32))
    # Where the label applies it follows the features; elsewhere they would mislead.
    labels = {s: np.where(x[:, 4] > 0, x[:, :3].argmax(1), -1).astype(np.int32) for s, x in raw.items()}
    task = probes.make_task(Family("class", ("a", "b", "c")), labels)
    assert len(task.rows["test"]) == (labels["test"] >= 0).sum()
    features = scale(raw, "standardised", turned=True, fitted=fitted)
    value, *_ = probe([features], task, Logistic(), refit=len(fitted) > 1).interval("accuracy")
    assert value > 0.93


def classes(seed: int = 3) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Features of which the first three tell the class, with noise."""
    rng = np.random.default_rng(seed)
    raw = by_split(lambda n: rng.standard_normal((n, 8)).astype(np.float32))
    return raw, {s: (x[:, :3] + rng.gumbel(size=(len(x), 3))).argmax(1).astype(np.int32) for s, x in raw.items()}


ABC = Family("class", ("a", "b", "c"))


def test_the_labels_of_the_test_split_choose_nothing():
    raw, labels = classes()
    features = scale(raw, "standardised", turned=True)
    result = probe([features, raw], probes.make_task(ABC, labels), Logistic(9))
    shuffled = labels | {"test": np.random.default_rng(0).permutation(labels["test"])}
    other = probe([features, raw], probes.make_task(ABC, shuffled), Logistic(9))
    assert (other.chosen, other.trials) == (result.chosen, result.trials)
    assert other.interval("accuracy")[0] < result.interval("accuracy")[0] - 0.1


def test_refit_sees_training_and_validation_examples():
    raw, _ = classes()
    x = raw | {"train": raw["train"][:20]}
    task = probes.make_task(ABC, {split: part[:, :3].argmax(1).astype(np.int32) for split, part in x.items()})
    features = scale(x, "standardised", turned=True, fitted=("train", "validation"))
    without, refitted = (probe([features], task, Logistic(5), refit=refit) for refit in (False, True))
    assert refitted.chosen == without.chosen
    assert refitted.interval("accuracy")[0] > without.interval("accuracy")[0] + 0.1


def test_validation_chooses_the_layer():
    raw, labels = classes()
    noise = by_split(lambda n: np.random.default_rng(n).standard_normal((n, 8)).astype(np.float32))
    result = probe([noise, raw, noise], probes.make_task(ABC, labels), Logistic())
    assert result.chosen[0]["layer"] == 2
    assert {trial.settings["layer"] for trial in result.trials[0]} == {1, 2, 3}
    assert result.interval("accuracy")[0] > 0.5


def test_few_shots_are_so_many_of_each_class_from_a_seed():
    _, labels = classes()
    labels["train"][:50] = -1
    task = probes.make_task(ABC, labels, shots=5, seed=1)
    assert np.bincount(task.labels["train"]).tolist() == [5, 5, 5]
    assert (labels["train"][task.rows["train"]] == task.labels["train"]).all()
    drawn = [probes.make_task(ABC, labels, shots=5, seed=seed).rows["train"].tolist() for seed in (1, 2)]
    assert drawn[0] == task.rows["train"].tolist() != drawn[1]
    with pytest.raises(probes.TooFew, match="no classes"):
        probes.make_task(Family("presence", ("p",)), by_split(lambda n: np.ones((n, 1), np.uint8)), shots=5)


def test_mean_per_class_of_the_most_frequent_class_is_one_in_all_classes():
    labels = by_split(lambda n: np.array([0] * (n - 20) + [1] * 10 + [2] * 10))
    task = probes.make_task(ABC, labels, metric="mean_per_class")
    assert probes.chance(task).interval("mean_per_class")[0] == pytest.approx(1 / 3)


def test_names_that_do_not_vary_and_families_with_too_little_are_left_out():
    varied = by_split(lambda n: np.stack([np.arange(n) % 2, np.zeros(n)], axis=1).astype(np.uint8))
    assert probes.make_task(Family("presence", ("varies", "never")), varied).names == ("varies",)
    with pytest.raises(probes.TooFew, match="fewer than two classes"):
        probes.make_task(Family("class", ("a", "b")), by_split(lambda n: np.zeros(n, np.int32)))
    with pytest.raises(probes.TooFew, match="at least"):
        probes.make_task(
            Family("class", ("a", "b")), {"train": np.arange(20) % 2, "validation": np.zeros(3), "test": np.zeros(20)}
        )


def test_chance_is_the_most_frequent_class_of_training():
    labels = {
        "train": np.array([0] * 10 + [1] * 20),
        "validation": np.arange(10) % 2,
        "test": np.array([0] * 30 + [1] * 10),
    }
    task = probes.make_task(Family("class", ("a", "b")), labels)
    assert probes.chance(task).interval("accuracy")[0] == 0.25


def test_pooled_initialisations_have_their_mean_and_an_interval_over_both():
    narrow = [probes.Result({"auc": np.concatenate([[v], np.full(100, v)])}, ({"l2": 1.0},)) for v in (0.4, 0.6)]
    assert probes.pool(narrow).interval("auc") == pytest.approx((0.5, 0.4, 0.6))


def test_a_name_is_probed_that_varies_among_the_examples_that_are_read():
    present = {split: np.tile(np.eye(2, dtype=np.uint8), (20, 1)) for split in COUNTS}
    present["train"][:30, 0] = 1
    present["train"][:30, 1] = 0  # both vary, but one of them not among the first 30
    present["train"][:30:2, 0] = 0
    family, most = Family("presence", ("often", "later")), dict.fromkeys(COUNTS, 30)
    assert probes.make_task(family, present).names == ("often", "later")
    task = probes.make_task(family, present, most)
    assert task.names == ("often",) and {y.shape for y in task.labels.values()} == {(30, 1)}
