"""The objective's own loss on a held-out split, and optionally the captions' log-likelihood.

Shapes: B examples, C captions of an image, L tokens, N captions of a split.
"""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from mdc_jax.config import sections
from mdc_jax.data.sources import open_source
from mdc_jax.evaluators.base import GlobalBatch, Subject, batches, extract, spec_of
from mdc_jax.objectives.base import Metrics, Objective, Params, Score
from mdc_jax.report import tables

# Every evaluation with the same batch size draws the same masks: differences between them are not noise.
_LOSS_SEED, _SCORE_SEED = 20, 21


class HeldOutLoss:
    """Yields "loss" and the objective's metrics; with `log_likelihood` also what each scorer finds.

    Log-likelihoods, of which a contrastive objective has none, are in nats:
    "log_likelihood/<scorer>/per_caption" and ".../per_token" (EOS counted), each with its
    ".../standard_error" over captions, which contains that of a Monte-Carlo estimate.
    `log_likelihood.csv` says what each scorer estimates.
    """

    def __init__(self, section: sections.HeldOutLoss) -> None:
        self._section = section

    def check(self, config: sections.Config) -> None:
        """See `Evaluator`."""
        open_source(spec_of(config, self._section.split))

    def run(self, subject: Subject) -> Iterator[tuple[str, float]]:
        section = self._section
        totals: dict[str, float] = {}
        examples = 0.0
        walk = batches(subject, subject.spec(section.split), count=section.examples, batch_size=section.batch_size)
        for index, batch in enumerate(walk):
            count, means = jax.device_get(_loss(subject.objective, subject.params, batch, index))
            examples += float(count)
            for name, mean in means.items():
                totals[name] = totals.get(name, 0.0) + float(count) * float(mean)
        for name, total in totals.items():
            yield name, total / max(examples, 1.0)
        if section.log_likelihood:
            yield from self._log_likelihood(subject)

    def _log_likelihood(self, subject: Subject) -> Iterator[tuple[str, float]]:
        section = self._section
        kinds: dict[str, str] = {}

        def scores(batch: GlobalBatch, index: int) -> dict[str, jax.Array]:
            scored = _scores(subject.objective, subject.params, batch, index)
            kinds.update({name: score.kind for name, score in scored.items()})
            values = {f"value/{name}": score.value for name, score in scored.items()}
            errors = {f"error/{name}": score.standard_error for name, score in scored.items()}
            return {**values, **errors, "length": batch["length"]}

        found = extract(
            subject, subject.spec(section.split), scores, count=section.examples, batch_size=section.batch_size
        )
        present = found["length"] > 0
        length_N = found["length"][present].astype(np.float64)
        rows = []
        for name, kind in kinds.items():
            value_N = found[f"value/{name}"][present].astype(np.float64)
            monte_carlo = np.sqrt(np.sum(found[f"error/{name}"][present].astype(np.float64) ** 2)) / len(value_N)
            per_caption, caption_error = _ratio(value_N, np.ones_like(value_N))
            per_token, token_error = _ratio(value_N, length_N)
            rows.append([name, kind, len(value_N), per_caption, caption_error, monte_carlo, per_token, token_error])
            yield f"log_likelihood/{name}/per_caption", per_caption
            yield f"log_likelihood/{name}/per_caption/standard_error", caption_error
            yield f"log_likelihood/{name}/per_token", per_token
            yield f"log_likelihood/{name}/per_token/standard_error", token_error
        if rows and jax.process_index() == 0:
            header = ["scorer", "estimates", "captions", "per_caption", "standard_error", "of_it_monte_carlo"]
            header += ["per_token", "per_token_standard_error"]
            tables.write_csv(subject.out / "log_likelihood.csv", header, rows)


@functools.partial(jax.jit, static_argnums=0)
def _loss(objective: Objective, params: Params, batch: GlobalBatch, index: jax.Array) -> tuple[jax.Array, Metrics]:
    """Number of examples in the loss of a batch, and the means over them."""
    key = jax.random.fold_in(jax.random.key(_LOSS_SEED), index)
    corrupted = objective.corrupt(batch, key)
    loss, metrics = objective.loss(params, corrupted)
    return jnp.sum(corrupted["weight"] > 0, dtype=jnp.float32), {**metrics, "loss": loss}


@functools.partial(jax.jit, static_argnums=0)
def _scores(objective: Objective, params: Params, batch: GlobalBatch, index: jax.Array) -> dict[str, Score]:
    key = jax.random.fold_in(jax.random.key(_SCORE_SEED), index)
    features = objective.encode(params, batch["image"])
    captions = {"text": batch["text"], "length": batch["length"]}
    scored = {name: scorer(params, features, captions, key) for name, scorer in objective.scorers.items()}
    return {name: score for name, score in scored.items() if score.kind != "similarity"}


def _ratio(value_N: np.ndarray, size_N: np.ndarray) -> tuple[float, float]:
    """sum(value) / sum(size) and its standard error over examples (the delta method)."""
    ratio = value_N.sum() / size_N.sum()
    return float(ratio), float(np.sqrt(np.sum((value_N - ratio * size_N) ** 2)) / size_N.sum())
