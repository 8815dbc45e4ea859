"""One linear probe: from features and labels of three splits to a metric with its 95% interval.

Features are standardised by the training split. Validation chooses the L2: the search goes from
FIRST_L2 to weaker values until two in a row bring no gain, and where nothing weaker was better to
stronger ones likewise, within LIMITS. The test split is read once, with the L2 chosen.

Shapes: N examples of a split, D features, K names or classes, R bootstrap resamples.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mdc_jax.data.sources.base import Family
from mdc_jax.evaluators import metrics, solvers

SPLITS = ("train", "validation", "test")
FIRST_L2, STEP = 1.0, 10.0
LIMITS = (1e-7, 1e3)
PATIENCE = 2  # values without a gain that end the search
RESAMPLES = 500
MIN_EXAMPLES = 10  # of a split

NO_LIMIT = dict.fromkeys(SPLITS)

Split = Mapping[str, np.ndarray]  # by name of the split


class TooFew(ValueError):
    """A family cannot be probed: its splits hold too few examples or classes."""


@dataclasses.dataclass(frozen=True)
class Task:
    """The labels of a family, less what cannot be learned or measured."""

    kind: str
    names: tuple[str, ...]
    labels: Split  # u8[N, K] or i32[N]
    rows: Split  # i64[N], the examples that have a label

    @property
    def metric(self) -> str:
        """The metric that validation chooses by, and that stands for the family."""
        return "auc" if self.kind == "presence" else "accuracy"


@dataclasses.dataclass(frozen=True)
class Result:
    """Metrics of a probe and how its L2 was chosen."""

    metrics: Mapping[str, np.ndarray]  # f64[1 + R]: the value, then that of every resample
    l2s: tuple[float, ...] = ()
    at_edge: bool = False  # the best L2 is the strongest or weakest that was tried

    def interval(self, metric: str) -> tuple[float, float, float]:
        """(value, low, high): the value and its 95% percentile interval over resampled test examples."""
        value, resampled = self.metrics[metric][0], self.metrics[metric][1:]
        low, high = np.nanpercentile(resampled, [2.5, 97.5])
        return float(value), float(low), float(high)


def make_task(family: Family, labels: Split, most: Mapping[str, int | None] = NO_LIMIT) -> Task:
    """Selects examples, at most `most` of a split, and names that can be probed; raises TooFew with the reason.

    Of a presence family, names need both answers in every split; of a class family, examples need a
    label and the training split two classes.
    """
    if family.kind == "presence":
        varies_K = np.logical_and.reduce([(y > 0).any(0) & (y == 0).any(0) for y in labels.values()])
        if not varies_K.any():
            raise TooFew("no name is present in some and absent from other examples of every split")
        names = tuple(name for name, varies in zip(family.names, varies_K, strict=True) if varies)
        rows = {split: np.arange(len(y))[: most[split]] for split, y in labels.items()}
        chosen = {split: y[rows[split]][:, varies_K] for split, y in labels.items()}
    elif family.kind == "class":
        names = family.names
        rows = {split: np.flatnonzero(y >= 0)[: most[split]] for split, y in labels.items()}
        chosen = {split: y[rows[split]] for split, y in labels.items()}
        if len(np.unique(chosen["train"])) < 2:
            raise TooFew("the training split has fewer than two classes")
    else:
        raise ValueError(f'family kind is {family.kind!r}; expected "presence" or "class"')
    for split, y in chosen.items():
        if len(y) < MIN_EXAMPLES:
            raise TooFew(f"{split} has {len(y)} labelled examples; at least {MIN_EXAMPLES} are needed")
    return Task(family.kind, names, chosen, rows)


def standardise(features: Split) -> Split:
    """Features f32[N, D] at mean 0 and scale 1 in the training split, turned onto their principal axes."""
    train = features["train"]
    mean_D = train.mean(0, dtype=np.float64).astype(np.float32)
    std_D = train.std(0, dtype=np.float64).astype(np.float32)
    scale_D = 1 / np.where(std_D > 1e-6, std_D, 1)
    scaled = {split: (x - mean_D[None]) * scale_D[None] for split, x in features.items()}
    axes = solvers.principal_axes(scaled["train"])
    return {split: x @ axes for split, x in scaled.items()}


def probe(features: Split, task: Task) -> Result:
    """Fits the probe on `standardise`d features of all examples."""
    x = {split: features[split][task.rows[split]] for split in SPLITS}
    once = np.ones((len(x["validation"]), 1), np.float32)

    def fit(l2: float, start: solvers.Heads | None) -> solvers.Heads:
        return solvers.fit(x["train"], task.labels["train"], l2, kind=task.kind, classes=len(task.names), start=start)

    def score(heads: solvers.Heads) -> float:
        return float(_measure(task, heads, x["validation"], task.labels["validation"], once)[task.metric][0])

    heads, at_edge = choose_l2(fit, score)
    return Result(_measure(task, heads, x["test"], task.labels["test"], _weights(len(x["test"]))), (heads.l2,), at_edge)


def choose_l2(
    fit: Callable[[float, solvers.Heads | None], solvers.Heads], score: Callable[[solvers.Heads], float]
) -> tuple[solvers.Heads, bool]:
    """Returns the heads of the best validation score, and whether their L2 is at the limit of the search.

    Args:
      fit: (l2, heads to start from) → heads.
      score: larger is better; of equals the first that was tried wins.
    """
    first = best = fit(FIRST_L2, None)
    best_score = score(first)
    for factor in (1 / STEP, STEP):
        last, without_gain = first, 0
        while without_gain < PATIENCE:
            l2 = last.l2 * factor
            if not LIMITS[0] * 0.99 < l2 < LIMITS[1] * 1.01:
                break
            last = fit(l2, last)
            last_score = score(last)
            if last_score > best_score:
                best, best_score, without_gain = last, last_score, 0
            else:
                without_gain += 1
        if best is not first:
            return best, best is last
    return best, False


def chance(task: Task) -> Result:
    """What no feature at all gives: the most frequent class, or a coin."""
    labels, weights = task.labels["test"], _weights(len(task.labels["test"]))
    if task.kind == "presence":
        half = np.full(weights.shape[1], 0.5)
        return Result({"auc": half, "balanced_accuracy": half})
    most_frequent = np.bincount(task.labels["train"], minlength=len(task.names)).argmax()
    return Result({"accuracy": metrics.accuracy(np.full_like(labels, most_frequent), labels, weights)})


def pool(results: Sequence[Result]) -> Result:
    """Several initialisations as one result: the mean value, the resamples of all."""
    pooled = {}
    for metric in results[0].metrics:
        values, resampled = zip(*((r.metrics[metric][:1], r.metrics[metric][1:]) for r in results), strict=True)
        pooled[metric] = np.concatenate([np.mean(values, axis=0), *resampled])
    return Result(pooled, tuple(l2 for r in results for l2 in r.l2s), any(r.at_edge for r in results))


def _measure(
    task: Task, heads: solvers.Heads, x_NxD: np.ndarray, labels: np.ndarray, weights_NxR: np.ndarray
) -> dict[str, np.ndarray]:
    logits = heads.logits(x_NxD)
    if task.kind == "class":
        return {"accuracy": metrics.accuracy(logits.argmax(1), labels, weights_NxR)}
    # Balanced accuracy asks whether a name is likelier than it was in training.
    share_K = task.labels["train"].mean(0)
    likelier = logits > np.log(share_K / (1 - share_K))[None]
    return {
        "auc": metrics.macro_auc(logits, labels, weights_NxR),
        "balanced_accuracy": metrics.balanced_accuracy(likelier, labels, weights_NxR),
    }


@functools.lru_cache(maxsize=4)
def _weights(n: int) -> np.ndarray:
    """All examples once, then the resamples: the same for every row of a table."""
    return np.concatenate([np.ones((n, 1), np.float32), metrics.resamples(n, RESAMPLES)], axis=1)
