"""What every kind of probe is given and returns, and the choice among what it tried.

Shapes: N examples, D features (T x D tokens of an attentive probe), K names or classes.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

import numpy as np

Settings = Mapping[str, float]
# Features → logits f32[N, K]. Of a presence family, one above its prior log odds means likelier than in training.
Predict = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Examples to fit, and the seed of what is drawn at random."""

    x: np.ndarray  # f32[N, D]
    y: np.ndarray  # u8[N, K] of presence, i32[N] of a class
    kind: str  # "presence" or "class"
    classes: int  # K
    seed: int = 0

    def targets(self, rows: slice = slice(None)) -> np.ndarray:
        """f32[rows, K], 1 where a name is present or a class applies."""
        y = self.y[rows]
        return y.astype(np.float32) if self.kind == "presence" else np.eye(self.classes, dtype=np.float32)[y]

    def prior_log_odds(self) -> np.ndarray:
        """f64[K] of the names of a presence family."""
        share = np.clip(self.y.mean(0, dtype=np.float64), 0.5 / len(self.y), 1 - 0.5 / len(self.y))
        return np.log(share / (1 - share))


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A probe, and the settings it was fitted with."""

    settings: Settings
    predict: Predict


@dataclasses.dataclass(frozen=True)
class Trial:
    """One setting that was tried, and its validation score; larger is better."""

    settings: Settings
    score: float


class Recipe(Protocol):
    """A kind of probe."""

    scaling: str  # how its features are scaled where the user says nothing, see `scaling.py`
    turned: bool  # whether it wants them on their principal axes
    refits: bool  # whether those who made it known fit the choice again on training and validation examples

    def sweep(self, data: Labelled, score: Callable[[Predict], float]) -> Iterator[tuple[Fitted, float]]:
        """Fits every setting there is to try, and yields each with its validation score."""
        ...

    def fit(self, data: Labelled, settings: Settings) -> Predict:
        """Fits one setting, as `sweep` does: for examples that the choice of the setting has not seen."""
        ...


def choose(tried: Iterable[tuple[Fitted, float]]) -> tuple[Fitted, float, tuple[Trial, ...], bool]:
    """Returns the best of a sweep (of equals the first), its score, all trials, and whether it lies at their edge."""
    best, best_score, trials = None, -np.inf, []
    for fitted, score in tried:
        trials.append(Trial(fitted.settings, score))
        if best is None or score > best_score:
            best, best_score = fitted, score
    if best is None:
        raise ValueError("a sweep tried nothing: expected at least one setting")
    edge = False
    for name, value in best.settings.items():
        values = {trial.settings[name] for trial in trials}
        edge |= len(values) > 1 and value in (min(values), max(values))
    return best, best_score, tuple(trials), edge
