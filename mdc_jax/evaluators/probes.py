"""One probe: from features and labels of three splits to a metric with its 95% interval.

Validation chooses among all that the recipe tries, and among layers where there are several; then the probe may be
fitted again on training and validation examples. The labels of the test split are read once, with the choice made.

Shapes: N examples of a split, D features, K names or classes, R bootstrap resamples.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from mdc_jax.data.sources.base import Family
from mdc_jax.evaluators import metrics
from mdc_jax.evaluators.fitting import Labelled, Predict, Recipe, Settings, Trial, choose
from mdc_jax.evaluators.scaling import Split, joined, together

SPLITS = ("train", "validation", "test")
RESAMPLES = 500
MIN_EXAMPLES = 10  # of a split

NO_LIMIT = dict.fromkeys(SPLITS)
_CLASS_METRICS = {"accuracy": metrics.accuracy, "mean_per_class": metrics.mean_per_class}


class TooFew(ValueError):
    """A family cannot be probed: its splits hold too few examples or classes."""


@dataclasses.dataclass(frozen=True)
class Task:
    """The labels of a family, less what cannot be learned or measured."""

    kind: str
    names: tuple[str, ...]
    labels: Split  # u8[N, K] or i32[N]
    rows: Split  # i64[N], the examples that have a label
    metric: str  # which validation chooses by, and that stands for the family


@dataclasses.dataclass(frozen=True)
class Attempt:
    """The best of all that was tried, and what it says of the test examples, whose labels nobody has looked at."""

    settings: Settings
    score: float  # on the validation split
    at_edge: bool  # the best setting is the largest or smallest that was tried with its layer
    trials: tuple[Trial, ...]
    refit: bool  # it was fitted again on training and validation examples
    logits: np.ndarray  # f32[N, K] of the test split


@dataclasses.dataclass(frozen=True)
class Result:
    """Metrics of a probe and how its settings were chosen."""

    metrics: Mapping[str, np.ndarray]  # f64[1 + R]: the value, then that of every resample
    chosen: tuple[Settings, ...] = ()  # of every initialisation
    trials: tuple[tuple[Trial, ...], ...] = ()  # of every initialisation
    at_edge: bool = False  # a setting chosen is the largest or smallest that was tried
    refit: bool = False  # fitted again on training and validation examples
    # Of one initialisation, what it says of each test example: the class i64[N], or scores of presence f32[N, K].
    predicted: np.ndarray | None = None

    def interval(self, metric: str) -> tuple[float, float, float]:
        """(value, low, high): the value and its 95% percentile interval over resampled test examples."""
        value, resampled = self.metrics[metric][0], self.metrics[metric][1:]
        return float(value), *metrics.interval(resampled)


def make_task(
    family: Family,
    labels: Split,
    most: Mapping[str, int | None] = NO_LIMIT,
    *,
    metric: str = "accuracy",
    shots: int = 0,
    seed: int = 0,
) -> Task:
    """Selects examples, at most `most` of a split, and names that can be probed; raises TooFew with the reason.

    Of a presence family, names need both answers in every split; of a class family, examples need a
    label and the training split two classes. With `shots`, so many training examples of each class are drawn from
    `seed`. `metric` is that of a class family; of presence it is the AUC.
    """
    if family.kind == "presence":
        if shots:
            raise TooFew("a few-shot probe takes so many examples of each class, and presence has no classes")
        rows = {split: np.arange(len(y))[: most[split]] for split, y in labels.items()}
        read = {split: y[rows[split]] for split, y in labels.items()}
        varies_K = np.logical_and.reduce([(y > 0).any(0) & (y == 0).any(0) for y in read.values()])
        if not varies_K.any():
            raise TooFew("no name is present in some and absent from other examples of every split")
        names = tuple(name for name, varies in zip(family.names, varies_K, strict=True) if varies)
        chosen = {split: y[:, varies_K] for split, y in read.items()}
    elif family.kind == "class":
        names = family.names
        rows = {split: np.flatnonzero(y >= 0)[: most[split]] for split, y in labels.items()}
        if shots:
            rows["train"] = _few(labels["train"], rows["train"], shots, seed)
        chosen = {split: y[rows[split]] for split, y in labels.items()}
        if len(np.unique(chosen["train"])) < 2:
            raise TooFew("the training split has fewer than two classes")
    else:
        raise ValueError(f'family kind is {family.kind!r}; expected "presence" or "class"')
    for split, y in chosen.items():
        if len(y) < MIN_EXAMPLES and not (shots and split == "train"):
            raise TooFew(f"{split} has {len(y)} labelled examples; at least {MIN_EXAMPLES} are needed")
    return Task(family.kind, names, chosen, rows, "auc" if family.kind == "presence" else metric)


def _few(labels_N: np.ndarray, rows: np.ndarray, shots: int, seed: int) -> np.ndarray:
    """The first `shots` rows of each class in an order drawn from `seed`, ascending."""
    drawn = np.random.default_rng((seed, shots)).permutation(rows)
    drawn = drawn[np.argsort(labels_N[drawn], kind="stable")]
    first = np.unique(labels_N[drawn], return_index=True)[1]
    place = np.arange(len(drawn)) - np.repeat(first, np.diff(np.append(first, len(drawn))))
    return np.sort(drawn[place < shots])


def attempt(
    features: Split,
    task: Task,
    recipe: Recipe,
    before: Attempt | None = None,
    *,
    layer: int = 0,
    refit: bool = False,
    seed: int = 0,
) -> Attempt:
    """Tries all that the recipe has on scaled features of all examples, and keeps the better of it and `before`.

    Layers are tried one after the other, so that features of one exist at a time; `layer` counts them from 1, and is 0
    where there is one. With `refit`, what is better is fitted again on training and validation examples together.
    """
    validation = _select(features, task, "validation")
    once = np.ones((len(validation), 1), np.float32)

    def score(predict: Predict) -> float:
        return float(_measure(task, predict(validation), "validation", once)[task.metric][0])

    best, best_score, trials, at_edge = choose(recipe.sweep(_labelled(features, task, ("train",), seed), score))
    of_layer = {"layer": layer} if layer else {}
    trials = tuple(Trial({**of_layer, **trial.settings}, trial.score) for trial in trials)
    trials = (*before.trials, *trials) if before else trials
    if before and before.score >= best_score:
        return dataclasses.replace(before, trials=trials)
    predict = best.predict
    if refit:
        predict = recipe.fit(_labelled(features, task, ("train", "validation"), seed), best.settings)
    logits = predict(_select(features, task, "test"))
    return Attempt({**of_layer, **best.settings}, best_score, at_edge, trials, refit, logits)


def read(tried: Attempt, task: Task) -> Result:
    """Holds what was chosen against the labels of the test split."""
    measured = _measure(task, tried.logits, "test", metrics.once_and_resampled(len(tried.logits), RESAMPLES))
    predicted = tried.logits.argmax(1) if task.kind == "class" else tried.logits
    return Result(measured, (tried.settings,), (tried.trials,), tried.at_edge, tried.refit, predicted)


def _select(features: Split, task: Task, split: str) -> np.ndarray:
    """The rows of a task; of all of them no copy is made."""
    rows, x = task.rows[split], features[split]
    return x if len(rows) == len(x) else x[rows]


def _labelled(features: Split, task: Task, splits: tuple[str, ...], seed: int) -> Labelled:
    """The rows of the splits; no copy is made where they are all that `scale` has put into one array."""
    x = features.get(together(splits))
    if x is None or len(x) > sum(len(task.rows[split]) for split in splits):
        x = joined([_select(features, task, split) for split in splits])
    y = joined([task.labels[split] for split in splits])
    return Labelled(x, y, task.kind, len(task.names), seed)


def chance(task: Task) -> Result:
    """What no feature at all gives: the most frequent class, or a coin."""
    labels, weights = task.labels["test"], metrics.once_and_resampled(len(task.labels["test"]), RESAMPLES)
    if task.kind == "presence":
        half = np.full(weights.shape[1], 0.5)
        return Result({"auc": half, "balanced_accuracy": half})
    most_frequent = np.bincount(task.labels["train"], minlength=len(task.names)).argmax()
    return Result({task.metric: _CLASS_METRICS[task.metric](np.full_like(labels, most_frequent), labels, weights)})


def pool(results: Sequence[Result]) -> Result:
    """Several initialisations as one result: the mean value, the resamples of all."""
    pooled = {}
    for metric in results[0].metrics:
        values, resampled = zip(*((r.metrics[metric][:1], r.metrics[metric][1:]) for r in results), strict=True)
        pooled[metric] = np.concatenate([np.mean(values, axis=0), *resampled])
    return Result(
        pooled,
        tuple(settings for r in results for settings in r.chosen),
        tuple(trials for r in results for trials in r.trials),
        any(r.at_edge for r in results),
        results[0].refit,
        results[0].predicted if len(results) == 1 else None,
    )


def _measure(task: Task, logits: np.ndarray, split: str, weights_NxR: np.ndarray) -> dict[str, np.ndarray]:
    labels = task.labels[split]
    if task.kind == "class":
        return {task.metric: _CLASS_METRICS[task.metric](logits.argmax(1), labels, weights_NxR)}
    return {
        "auc": metrics.macro_auc(logits, labels, weights_NxR),
        "balanced_accuracy": metrics.balanced_accuracy(likelier(task, logits), labels, weights_NxR),
    }


def likelier(task: Task, logits_NxK: np.ndarray) -> np.ndarray:
    """Which names are likelier than they were in training, bool[N, K]: what balanced accuracy asks."""
    share_K = task.labels["train"].mean(0)
    return logits_NxK > np.log(share_K / (1 - share_K))[None]
