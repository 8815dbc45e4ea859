"""How likely held-out captions are, and how well masked tokens are predicted by the share that is masked.

Shapes: B examples, C captions of an image, N images of a split, S draws.
"""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from mdc_jax import files
from mdc_jax.config import sections
from mdc_jax.data.sources import open_source
from mdc_jax.evaluators import blind_decoder, ratio
from mdc_jax.evaluators.base import GlobalBatch, Subject, chosen_scorers, extract, objective_of, spec_of
from mdc_jax.objectives.base import Objective, Params, Score
from mdc_jax.report import plots, tables
from mdc_jax.scoring.blind import null_memory_counts

# Every evaluation with the same batch size draws the same masks: differences between them are not noise.
_SEED = 21
_BINS = 10  # of the masked share
_LIKELIHOODS = ("exact", "bound")
_LOSSES = ("nats", "masked", "maskable")  # see `Objective.masked_losses`
_IMAGE, _NULL, _BLIND = "image", "null_memory", "trained_without_images"
_KEYS = ("sees", "scorer", "estimates", "captions", "tokens")  # of a line of `perplexity.csv`; `_Row` has the rest


class Perplexity:
    """Yields "<scorer>/per_caption" and "<scorer>/per_token", in nats, and "<scorer>/perplexity" where they are log-
    likelihoods, exact or bounds; of heuristics and similarities the exponential is the perplexity of nothing.

    A bound makes the perplexity an upper one. Each has its ".../standard_error" over images, which contains
    that of a Monte-Carlo estimate. What is divided by are the tokens of the text with EOS, whatever the score is of:
    with `padding="target"` it is also of the pads, and with `padding="known"`, `mask_eos=False` or `mask_words=True`
    of the words alone, as the length is given. Their values are comparable with those of no other setting.

    With `blind_workdir` also the same of that decoder and of this one's null memory, as
    "trained_without_images/..." and "null_memory/...", and "null_memory/<scorer>/counts_as_blind".

    Writes `perplexity.csv`, `predictions.jsonl`, what each scorer says of the captions of each image (their sum, in
    nats where it is a likelihood), and, for objectives that mask a share of the tokens, the loss by that
    share, `masked_share.csv` and `.svg`; the others have no such curve.
    """

    def __init__(self, section: sections.Perplexity) -> None:
        self._section = section

    def check(self, config: sections.Config) -> None:
        """See `Evaluator`."""
        open_source(spec_of(config, self._section.split))
        chosen_scorers(self._section, objective_of(config))
        if self._section.blind_workdir:
            blind_decoder.check(config, self._section.blind_workdir)

    def run(self, subject: Subject) -> Iterator[tuple[str, float]]:
        section = self._section
        names = section.scorers and chosen_scorers(section, subject.objective)
        views = {_IMAGE: _View(subject.objective, subject.params, True)}
        if section.blind_workdir:
            views |= _blind_views(subject, section.blind_workdir)
        kinds: dict[tuple[str, str], str] = {}

        def measure(batch: GlobalBatch, index: int) -> dict[str, jax.Array]:
            found = {"length": batch["length"]}
            for sees, view in views.items():
                scores, losses = _measured(view.objective, names, view.images, view.params, batch, index)
                for name, score in scores.items():
                    kinds[sees, name] = score.kind
                    value, error = score.total(batch["length"] > 0)
                    found |= {f"value/{sees}/{name}": value, f"error/{sees}/{name}": error}
                found |= losses
            return found

        found = extract(
            subject, subject.spec(section.split), measure, count=section.examples, batch_size=section.batch_size
        )
        captions_N, length_N = (np.sum(x, axis=1, dtype=np.float64) for x in (found["length"] > 0, found["length"]))
        rows: dict[tuple[str, str], _Row] = {}
        each: list[dict[str, Any]] = []
        for sees, name in kinds:
            value_N, error_N = (found[f"{what}/{sees}/{name}"].astype(np.float64) for what in ("value", "error"))
            for identity, value, tokens in zip(found["id"].tolist(), value_N, length_N, strict=True):
                each.append({"id": identity, "sees": sees, "scorer": name, "value": value, "tokens": int(tokens)})
            row = rows[sees, name] = _row(value_N, error_N, length_N, captions_N, kinds[sees, name])
            prefix = name if sees == _IMAGE else f"{sees}/{name}"
            yield f"{prefix}/per_caption", row.per_caption
            yield f"{prefix}/per_caption/standard_error", row.standard_error
            yield f"{prefix}/per_token", row.per_token
            yield f"{prefix}/per_token/standard_error", row.per_token_standard_error
            if row.perplexity is not None and row.perplexity_standard_error is not None:
                yield f"{prefix}/perplexity", row.perplexity
                yield f"{prefix}/perplexity/standard_error", row.perplexity_standard_error
            if (_NULL, name) in rows and (_BLIND, name) in rows:
                null, blind = (-rows[view, name].per_token for view in (_NULL, _BLIND))
                yield f"{_NULL}/{name}/counts_as_blind", float(null_memory_counts(null, blind))
        if jax.process_index() == 0:
            counts = int(captions_N.sum()), int(length_N.sum())
            lines = [
                [*key, kinds[key], *counts, *("" if cell is None else cell for cell in row)]
                for key, row in rows.items()
            ]
            tables.write_csv(subject.out / "perplexity.csv", (*_KEYS, *_Row._fields), lines)
            files.write_json_lines(subject.out / "predictions.jsonl", each)
            if _LOSSES[0] in found:
                nats, masked, maskable = (found[name] for name in _LOSSES)
                present = (found["length"] > 0)[..., None]
                _write_curve(subject, by_share(nats, masked * present, maskable))


class _View(NamedTuple):
    """A model, and whether it is shown the images."""

    objective: Objective
    params: Params
    images: bool


class _Row(NamedTuple):
    """Scores in nats, perplexity of what is a likelihood, and their standard errors over images."""

    per_caption: float
    standard_error: float
    of_it_monte_carlo: float
    per_token: float
    per_token_standard_error: float
    perplexity: float | None
    perplexity_standard_error: float | None


def _blind_views(subject: Subject, workdir: str) -> dict[str, _View]:
    """The null memory of the model, where it has one, and a decoder trained without images; raises ConfigError."""
    blind = blind_decoder.load(subject, workdir)
    views = {_BLIND: _View(blind.objective, blind.params, False)}
    if subject.objective.null_features(subject.params, 1) is not None:
        views = {_NULL: _View(subject.objective, subject.params, False), **views}
    return views


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _measured(
    objective: Objective, names: tuple[str, ...], images: bool, params: Params, batch: GlobalBatch, index: jax.Array
) -> tuple[dict[str, Score], dict[str, jax.Array]]:
    """What the scorers `names` say, or all that are exact or bounds, and with `images` the losses by masked share.

    What is not returned is not computed.
    """
    score_key, mask_key = jax.random.split(jax.random.fold_in(jax.random.key(_SEED), index))
    captions = {"text": batch["text"], "length": batch["length"]}
    if images:
        features = objective.encode(params, batch["image"])
        losses = objective.masked_losses(params, features, captions, mask_key, draws=_BINS)
    else:
        features, losses = objective.null_features(params, len(batch["image"])), None
    scores = {name: scorer(params, features, captions, score_key) for name, scorer in objective.scorers.items()}
    chosen = {name: score for name, score in scores.items() if (name in names if names else score.kind in _LIKELIHOODS)}
    return chosen, {} if losses is None else dict(zip(_LOSSES, losses, strict=True))


def _row(value_N: np.ndarray, error_N: np.ndarray, length_N: np.ndarray, captions_N: np.ndarray, kind: str) -> _Row:
    """From sums over the captions of each image, which share the image and random numbers."""
    per_caption, caption_error = ratio.of_sums(value_N, captions_N)
    per_token, token_error = ratio.of_sums(value_N, length_N)
    monte_carlo = float(np.sqrt(np.sum(error_N**2)) / captions_N.sum())
    perplexity = float(np.exp(-per_token)) if kind in _LIKELIHOODS else None
    error = None if perplexity is None else perplexity * token_error
    return _Row(per_caption, caption_error, monte_carlo, per_token, token_error, perplexity, error)


def by_share(nats_NxCxS: np.ndarray, masked_NxCxS: np.ndarray, maskable_NxC: np.ndarray) -> np.ndarray:
    """The loss by masked share: f64[bins with a mask, (share, nats per masked token, standard error, tokens)].

    Shares l / n in (0, 1] fall into ten equal bins; a bin's share is the mean of those in it. Errors are over images.
    """
    share_NxCxS = masked_NxCxS / np.maximum(maskable_NxC, 1)[..., None].astype(np.float64)
    bin_NxCxS = np.ceil(share_NxCxS * _BINS - 1e-6) - 1  # -1: nothing could be masked
    points = []
    for index in range(_BINS):
        inside = bin_NxCxS == index
        nats_N, tokens_N = (np.sum(x, axis=(1, 2), dtype=np.float64, where=inside) for x in (nats_NxCxS, masked_NxCxS))
        if tokens_N.any():
            loss, error = ratio.of_sums(nats_N, tokens_N)
            points.append((share_NxCxS[inside].mean(), loss, error, tokens_N.sum()))
    return np.array(points).reshape(-1, 4)


def _write_curve(subject: Subject, curve: np.ndarray) -> None:
    header = ["masked_share", "nats_per_token", "standard_error", "tokens"]
    tables.write_csv(subject.out / "masked_share.csv", header, curve.tolist())
    share, loss, error, _ = np.nan_to_num(curve).T
    # Mean and 95% interval, as three runs: the band around a line reaches from the lowest to the highest.
    band = np.stack([np.stack([share, loss + side * 1.96 * error], axis=-1) for side in (-1, 0, 1)])
    labels = {"x": "share of the tokens that is masked", "y": "nats per masked token"}
    (subject.out / "masked_share.svg").write_bytes(plots.bands({subject.config.objective.name: band}, **labels))
