"""What a caption gives away about a label without saying it: by its length, its batch, or the kinds of its words.

Where length tells how many objects there are, a model can learn to count from padding. So every label of a source is
predicted from such features alone. Where there is nothing to tell, the area under the ROC curve is .5.

Shapes: N examples, F features, K names of a family.
"""

import collections
import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import scipy.stats
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold

from mdc_jax.data.readers import read_ahead
from mdc_jax.data.retries import Retries
from mdc_jax.data.sources.base import BadRecord, Family, Record, Source

COUNT = "count"  # the family within whose classes the others are predicted: more objects need more words
MEAN = ""  # the name of a family's mean over its names

_FOLDS = 5
_FEWEST = 5 * _FOLDS  # examples with a label, and without it, below which it is left out
_RIDGE = 1.0
_LONGEST = 64  # words; longer captions count as this long
_MOST_KINDS = 100
_PLACES = (0, 1, 4, -1)  # in the caption, of which the kind of word is a feature
_Z95 = 1.959964

# Words that say how a sentence is built, not what is in the image; all others are one kind.
_FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a an the this that these those some any no and or but nor of in on at to from by with without for as is are "
        "was were be been being has have had do does did can could will would it its he she they his her their there "
        "here who which what where when while not than then into onto over under near next very",
    )
)


@dataclasses.dataclass(frozen=True)
class Told:
    """How well features tell a label: area under the ROC curve with its 95% interval; chance is .5."""

    family: str
    name: str  # MEAN: over all names of the family
    features: str
    auc: float
    error: float  # standard error
    examples: int

    @property
    def low(self) -> float:
        return max(0.0, self.auc - _Z95 * self.error)

    @property
    def high(self) -> float:
        return min(1.0, self.auc + _Z95 * self.error)


@dataclasses.dataclass(frozen=True)
class Audit:
    """What was found, and how many records could not be used, by reason."""

    told: Sequence[Told]
    dropped: Mapping[str, int]


def _records(source: Source, indices: Iterable[int]) -> Iterator[Record | BadRecord]:
    """Records without their images, of which there would be many in memory; raises ReadError."""

    def read(index: int) -> Record | BadRecord:
        try:
            return dataclasses.replace(retries(source.__getitem__, source.spec, index), image=b"")
        except BadRecord as fault:
            return fault

    with contextlib.closing(Retries()) as retries:
        yield from read_ahead(read, indices)


def audit(source: Source, indices: Iterable[int], bucket: Callable[[Sequence[str]], int] | None = None) -> Audit:
    """Predicts every label of these records from the length of their captions, and from the kinds of their words.

    With `bucket`, captions → length bucket, also from the bucket: where a batch is a fair sample of one bucket, this is
    all that its composition can tell.

    Where the source has a family "count", the other families are predicted among images of equal count. A source may
    have `word_kind(word) -> str`; else function words and punctuation are kinds of their own, all other words are one.

    Raises:
      ReadError: a record could not be read, after several attempts.
    """
    captions, buckets, labels, dropped = [], [], collections.defaultdict(list), collections.Counter()
    for record in _records(source, indices):
        if isinstance(record, BadRecord):
            dropped[record.reason] += 1
            continue
        text = next((caption for caption in record.captions if words(caption)), None)
        if text is None:
            dropped["no caption"] += 1
            continue
        captions.append(words(text))
        if bucket is not None:
            buckets.append(bucket(record.captions))
        for family in source.families:
            labels[family].append(record.labels[family])
    if not captions:
        return Audit((), dropped)

    kinds = [[*map(getattr(source, "word_kind", word_kind), caption)] for caption in captions]
    known = {
        "length": powers([min(len(caption), _LONGEST) for caption in captions]),
        "kinds": np.stack(list(kind_features(kinds).values()), 1),
    }
    if bucket is not None:
        known["bucket"] = one_hot(buckets)
    told = []
    for name, family in source.families.items():
        values = np.asarray(labels[name])
        groups = None if name == COUNT or COUNT not in labels else np.asarray(labels[COUNT])
        for features, table in known.items():
            told += tell(table, values, name, family, features, groups)
    return Audit(told, dropped)


def tell(
    table_NxF: np.ndarray,
    labels: np.ndarray,
    name: str,
    family: Family,
    features: str,
    groups_N: np.ndarray | None = None,
) -> list[Told]:
    """Predicts the labels of a family from any features by ridge regression, on folds that it was not fitted to.

    For the composition of batches, let the features say which batch an example is in (see `one_hot`), or what is
    known of that batch, as its length bucket.

    Args:
      table_NxF: the features.
      labels: i32[N] for classes (-1: does not apply), u8[N, K] for presence.
      name: of the family.
      family: its kind and names.
      features: what to call the features.
      groups_N: predict among examples of the same group only.

    Returns:
      The family's mean, then each name that is frequent enough; nothing where none is.
    """
    holds_NxK = labels > 0 if family.kind == "presence" else labels[:, None] == np.arange(len(family.names))
    applies_N = np.ones(len(labels), bool) if family.kind == "presence" else labels >= 0
    groups_N = np.zeros(len(labels), int) if groups_N is None else groups_N
    areas, weights, influences = [], [], []  # of every fold of every group
    for group in np.unique(groups_N[applies_N]):
        rows = np.flatnonzero(applies_N & (groups_N == group))
        if len(rows) < 2 * _FEWEST:
            continue
        holds = holds_NxK[rows]
        enough_K = np.minimum(holds.sum(0), (~holds).sum(0)) >= _FEWEST
        for train, test in KFold(_FOLDS, shuffle=True, random_state=0).split(rows):
            model = Ridge(_RIDGE).fit(table_NxF[rows[train]], holds[train].astype(np.float32))
            scores = model.predict(table_NxF[rows[test]]).reshape(len(test), -1)
            found = [_area(scores[:, k], holds[test, k], bool(enough_K[k])) for k in range(len(enough_K))]
            area_K, weight_K, influence_KxN = map(np.asarray, zip(*found, strict=True))
            areas.append(area_K)
            weights.append(weight_K)
            influences.append(influence_KxN.T)
    if not areas or not np.sum(weights):
        return []
    total_K = np.sum(weights, 0)
    use = np.flatnonzero(total_K)
    shares = [weight_K[use] / total_K[use] for weight_K in weights]
    area_K = sum(share * area[use] for share, area in zip(shares, areas, strict=True))
    influence_NxK = np.concatenate([share * part[:, use] for share, part in zip(shares, influences, strict=True)])
    error_K, error = np.sqrt((influence_NxK**2).sum(0)), np.sqrt((influence_NxK.mean(1) ** 2).sum())
    count = len(influence_NxK)
    return [
        Told(name, MEAN, features, float(area_K.mean()), float(error), count),
        *(
            Told(name, family.names[k], features, float(area), float(wide), count)
            for k, area, wide in zip(use, area_K, error_K, strict=True)
        ),
    ]


def _area(scores_N: np.ndarray, holds_N: np.ndarray, wanted: bool) -> tuple[float, float, np.ndarray]:
    """Area under the ROC curve, its weight, and each example's influence on it, whose squares sum to its variance.

    DeLong, DeLong and Clarke-Pearson (1988).
    """
    positive, negative = int(holds_N.sum()), int((~holds_N).sum())
    influence_N = np.zeros(len(holds_N))
    if not wanted or min(positive, negative) < 2:
        return 0.5, 0.0, influence_N
    ranks_N = scipy.stats.rankdata(scores_N)
    won = (ranks_N[holds_N] - scipy.stats.rankdata(scores_N[holds_N])) / negative
    lost = 1 - (ranks_N[~holds_N] - scipy.stats.rankdata(scores_N[~holds_N])) / positive
    area = float(won.mean())
    influence_N[holds_N], influence_N[~holds_N] = (won - area) / positive, (lost - area) / negative
    return area, positive * negative / (positive + negative), influence_N


def words(caption: str) -> list[str]:
    """Words in lower case, and punctuation marks."""
    return re.findall(r"\w+|[^\w\s]", caption.lower())


def word_kind(word: str) -> str:
    """The kind of a word in any language: function words and marks stand for themselves."""
    if word in _FUNCTION_WORDS or not word.isalnum():
        return word
    return "NUMBER" if word.isdecimal() else "WORD"


def powers(values: Sequence[float]) -> np.ndarray:
    """f32[N, 3]: standardised values, their squares and cubes."""
    values_N = np.asarray(values, np.float32)
    values_N = (values_N - values_N.mean()) / max(float(values_N.std()), 1e-6)
    return np.stack([values_N, values_N**2, values_N**3], 1)


def one_hot(values: Sequence[int]) -> np.ndarray:
    """f32[N, different values]."""
    _, place_N = np.unique(values, return_inverse=True)
    return np.eye(place_N.max() + 1, dtype=np.float32)[place_N]


def kind_features(kinds: Sequence[Sequence[str]]) -> dict[str, np.ndarray]:
    """By name, f32[N]: how often each kind of word occurs, and which one stands where in the caption."""
    frequent = collections.Counter(kind for caption in kinds for kind in caption).most_common(_MOST_KINDS)
    names = sorted(kind for kind, _ in frequent)
    columns = {f"number of {kind}": [caption.count(kind) for caption in kinds] for kind in names}
    for place in _PLACES:
        standing = [caption[place] if -len(caption) <= place < len(caption) else None for caption in kinds]
        columns |= {f"{kind} at {place}": [at == kind for at in standing] for kind in names}
    return {name: np.asarray(column, np.float32) for name, column in columns.items()}
