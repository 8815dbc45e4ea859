"""How long captions are: what the model knows of it from the image, against what training captions alone tell.

Shapes: B images, L tokens, N captions of a split.
"""

import functools
from collections.abc import Iterator

import jax
import numpy as np

from mdc_jax.config import ConfigError, decoding, sections
from mdc_jax.data.captions import read_captions
from mdc_jax.data.sources import open_source
from mdc_jax.evaluators.base import GlobalBatch, Subject, extract, spec_of
from mdc_jax.objectives.base import Objective, Params

_CAPTIONS = 10_000  # that are counted


def training_law(subject: Subject, added: int = 0) -> np.ndarray:
    """log of the share of training captions that have 1 ... L tokens, f32[L], EOS included.

    `added` captions of every length join those that are counted: with none, lengths that are not there have -inf.
    """
    most = subject.config.data.max_tokens
    source = open_source(subject.spec("train"))
    lengths = [len(subject.tokenizer.encode(caption, most)) for caption in read_captions(source, _CAPTIONS)]
    counts = added + np.bincount(lengths, minlength=most + 1)[1:]
    with np.errstate(divide="ignore"):
        return np.log(counts / counts.sum()).astype(np.float32)


class Lengths:
    """Yields, for the laws "model" and "training" of the lengths of held-out captions,

    - "log_likelihood/LAW": the mean of log p(length | image), or of log p(length), in nats,
    - "miscalibration/LAW": see `miscalibration`.
    """

    def __init__(self, section: sections.Lengths) -> None:
        self._section = section

    def check(self, config: sections.Config) -> None:
        """See `Evaluator`."""
        objective = config.objective
        lawless = getattr(objective, "padding", "hidden") != "hidden" or decoding.needs_length(objective)
        if "length" not in objective.decoding or lawless:
            raise ConfigError(
                f'the objective "{objective.name}" with its settings has no length law, which masked ones have with '
                'padding="hidden", mask_eos=True and mask_words=False: leave the lengths evaluator out'
            )
        open_source(spec_of(config, self._section.split))

    def run(self, subject: Subject) -> Iterator[tuple[str, float]]:
        section = self._section

        def laws(batch: GlobalBatch, index: int) -> dict[str, jax.Array]:
            return {"law": _laws(subject.objective, subject.params, batch["image"]), "length": batch["length"]}

        spec = subject.spec(section.split)
        found = extract(subject, spec, laws, count=section.examples, batch_size=section.batch_size)
        image_N, caption_N = np.nonzero(found["length"] > 0)
        length_N = found["length"][image_N, caption_N]
        of_images_NxL = found["law"][image_N].astype(np.float64)
        law_L = training_law(subject, added=1)  # no length is impossible, so that each has a likelihood
        same_NxL = np.broadcast_to(law_L.astype(np.float64), of_images_NxL.shape)
        for name, law_NxL in (("model", of_images_NxL), ("training", same_NxL)):
            yield f"log_likelihood/{name}", float(law_NxL[np.arange(len(length_N)), length_N - 1].mean())
            yield f"miscalibration/{name}", miscalibration(np.exp(law_NxL), length_N)


@functools.partial(jax.jit, static_argnums=0)
def _laws(objective: Objective, params: Params, images: jax.Array) -> jax.Array:
    return objective.length_law(params, objective.encode(params, images))


def miscalibration(law_NxL: np.ndarray, length_N: np.ndarray, points: int = 200) -> float:
    """Mean distance, over levels u, of the share of lengths below the u-quantile of their law from u.

    0 for a law that holds; of N captions about .31 / sqrt(N) by chance, and twice that at times; at most .5. The share
    is that of the probability integral transform, in its form for discrete laws that draws nothing (Czado, Gneiting
    and Held, Biometrics 65, 2009, section 2.1).
    """
    rows = np.arange(len(length_N))
    own_N = law_NxL[rows, length_N - 1]
    below_N = law_NxL.cumsum(1)[rows, length_N - 1] - own_N
    levels = (np.arange(points) + 0.5) / points
    share = [np.clip((u - below_N) / np.maximum(own_N, 1e-12), 0, 1).mean() for u in levels]
    return float(np.abs(np.array(share) - levels).mean())
