"""Which caption of an image, and which image of a caption, scores choose. Nothing chosen is wrong: so is a tie.

Shapes: N foils, S images of a foil, C captions: two images with two captions, of which caption i is that of image i, or
one image with two captions or more, of which the first is true.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from mdc_jax.evaluators import metrics

_TAIL = 0.025

ACCURACY, TEXT, IMAGE, GROUP = "accuracy", "text", "image", "group"
MACRO = "macro"


@dataclasses.dataclass(frozen=True)
class Choice:
    """How right each foil is, f64[N], and how many of the comparisons are ties."""

    right_N: np.ndarray
    ties: int

    def interval(self) -> tuple[float, float, float]:
        """The mean over foils, and its 95% interval: by bootstrap, or where all foils are equal by the share of others
        that may have gone unseen (at 0 and 1 this is exact, Clopper-Pearson)."""
        count, mean = len(self.right_N), float(self.right_N.mean())
        if np.ptp(self.right_N) == 0:  # a bootstrap has nothing to draw from
            others = 1 - _TAIL ** (1 / count)
            return mean, mean - mean * others, mean + (1 - mean) * others
        means_R = self.right_N @ metrics.once_and_resampled(count)[:, 1:] / count
        return mean, *metrics.interval(means_R)

    def macro(self, groups: Sequence[str]) -> tuple[float, float, float]:
        """The mean over groups of the mean over their foils, and its 95% interval by bootstrap over the foils."""
        values_R = metrics.mean_of_groups(self.right_N, np.array(groups), metrics.once_and_resampled(len(groups)))
        return float(values_R[0]), *metrics.interval(values_R[1:])


def choices(scores_NxSxC: np.ndarray) -> dict[str, Choice]:
    """What the scores choose.

    "accuracy" is the share of a foil's images whose own caption scores higher than all others: .5 for every
    score of the caption alone where there are two images, unless it has ties. With two images also Winoground's scores
    (arXiv 2204.03162): "text", both images choose right; "image", both captions do; "group", all four.
    """
    own = np.arange(scores_NxSxC.shape[1])
    truth_NxS = scores_NxSxC[:, own, own]
    others_NxSxC = np.where(np.eye(*scores_NxSxC.shape[1:], dtype=bool)[None], -np.inf, scores_NxSxC)
    of_caption = _compare(truth_NxS, others_NxSxC.max(-1))
    found = {ACCURACY: Choice(of_caption.right_N, of_caption.ties)}
    if len(own) == 2:
        of_image = _compare(truth_NxS, scores_NxSxC[:, 1 - own, own])
        text_N, image_N = np.floor(of_caption.right_N), np.floor(of_image.right_N)
        found[TEXT] = Choice(text_N, of_caption.ties)
        found[IMAGE] = Choice(image_N, of_image.ties)
        found[GROUP] = Choice(text_N * image_N, of_caption.ties + of_image.ties)
    return found


def _compare(truth_NxS: np.ndarray, other_NxS: np.ndarray) -> Choice:
    """The share of a foil's comparisons that the true pairing wins."""
    return Choice((truth_NxS > other_NxS).mean(1), int(np.sum(truth_NxS == other_NxS)))
