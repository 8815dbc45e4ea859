"""What the image is worth to the prediction of a token, by its position in the caption and by the share that is masked.

The paper argues that masked diffusion learns from the image at every position, and autoregression less where more words
are known. Texts are shown as training shows them: masked, or from left to right.

Shapes: B images, T texts of an image, L tokens, N image tokens, D width, M images of a bank, S images of a split.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mdc_jax import files
from mdc_jax.config import sections
from mdc_jax.data.sources import open_source
from mdc_jax.evaluators import ratio
from mdc_jax.evaluators.base import GlobalBatch, Subject, extract, spec_of
from mdc_jax.evaluators.image_bank import training_images
from mdc_jax.objectives.base import Features, Objective, Params
from mdc_jax.report import panels, tables

_SEED = 27
_BINS = 5  # of the share that is masked
_ALL = "all"
_MEASURED = ("nats", "blind_nats", "signal", "gradient")
_THIRDS = ("first_third", "middle_third", "last_third")
_LABELS = {"signal": "nats that the image is worth", "gradient": "gradient at the image tokens"}


class PositionSignal:
    """Yields means over tokens, EOS included: "signal", "gradient", and both by third of the caption.

    signal: -log p without the image less -log p with it, in nats. Without: p is the mean over training images, every
    one of which counts the same, also where visible words contradict it. So it is what the true image adds to one
    drawn at random, and more than what it adds to the words alone.
    gradient: the norm of the gradient of -log p at all image tokens, times their root mean square: nats for a change
    as large as the tokens are.

    Words differ by position in what the image could say of them. Compare objectives, not positions of one.

    Writes `position_signal.csv`, by position and masked share, `signal.svg`, `gradient.svg`, and the same as PDF; and
    `predictions.jsonl`, a line for each text of each image with what was measured at the tokens that it predicts.
    """

    def __init__(self, section: sections.PositionSignal) -> None:
        self._section = section

    def check(self, config: sections.Config) -> None:
        """See `Evaluator`."""
        open_source(spec_of(config, self._section.split))
        open_source(spec_of(config, "train"))

    def run(self, subject: Subject) -> Iterator[tuple[str, float]]:
        section = self._section
        bank = training_images(subject, section.blind_images)

        def measure(batch: GlobalBatch, index: int) -> dict[str, jax.Array]:
            return _measured(subject.objective, subject.params, batch, bank, index)

        found = extract(
            subject, subject.spec(section.split), measure, count=section.examples, batch_size=section.batch_size
        )
        length_SxT = np.tile(found["length"], (1, found["share"].shape[1] // found["length"].shape[1]))
        third = _third(length_SxT, found["nats"].shape[-1])
        for name in ("signal", "gradient"):
            yield name, _mean(found[name], found["predicted"])
            for index, part in enumerate(_THIRDS):
                inside = found["predicted"] & (third == index)
                if inside.any():
                    yield f"{name}/{part}", _mean(found[name], inside)
        if jax.process_index() == 0:
            _write(subject, found)
            files.write_json_lines(subject.out / "predictions.jsonl", _lines(found))


@functools.partial(jax.jit, static_argnums=0)
def _measured(
    objective: Objective, params: Params, batch: GlobalBatch, bank: Features, index: jax.Array
) -> dict[str, jax.Array]:
    """By token, f32[B, T, L] each, with the same masks for all images."""
    key = jax.random.fold_in(jax.random.key(_SEED), index)
    captions = {"text": batch["text"], "length": batch["length"]}
    features = objective.encode(params, batch["image"])

    def nats(tokens: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        return objective.token_losses(params, {**features, "tokens": tokens}, captions, key)

    def without(tokens: jax.Array) -> jax.Array:
        return nats(jnp.broadcast_to(tokens[None], (len(batch["image"]), *tokens.shape)))[0]

    own, predicted, share = nats(features["tokens"])
    blind_MxBxTxL = jax.lax.map(without, bank["tokens"])
    blind = jnp.log(len(blind_MxBxTxL)) - jax.nn.logsumexp(-blind_MxBxTxL, axis=0)
    blind = jnp.where(predicted, blind, 0.0)
    return {
        "nats": own,
        "blind_nats": blind,
        "signal": blind - own,
        "gradient": _gradient(lambda tokens: nats(tokens)[0], features["tokens"]),
        "predicted": predicted,
        "share": share,
        "length": batch["length"],
    }


def _gradient(nats: Callable[[jax.Array], jax.Array], tokens: jax.Array) -> jax.Array:
    """Norms f32[B, T, L] of the gradients of nats(tokens) f32[B, T, L] at tokens [B, N, D], times these' size."""
    found, pull = jax.vjp(nats, tokens)
    size = jnp.sqrt(jnp.mean(jnp.square(tokens), axis=(1, 2)))

    def of_a_token(place: jax.Array) -> jax.Array:
        one = jnp.zeros((found[0].size,)).at[place].set(1.0).reshape(found.shape[1:])
        (gradient,) = pull(jnp.broadcast_to(one[None], found.shape).astype(found.dtype))  # rows do not meet
        return size * jnp.sqrt(jnp.sum(jnp.square(gradient), axis=(1, 2)))

    return jax.lax.map(of_a_token, jnp.arange(found[0].size)).T.reshape(found.shape)


def _third(length_SxT: np.ndarray, tokens: int) -> np.ndarray:
    """In which third of its caption each token lies, i64[S, T, L]; 3 of pads."""
    return np.minimum(3 * np.arange(tokens)[None, None] // np.maximum(length_SxT, 1)[..., None], 3)


def _mean(values: np.ndarray, where: np.ndarray) -> float:
    return float(values[where].mean(dtype=np.float64))


def _lines(found: Mapping[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    for image, identity in enumerate(found["id"].tolist()):
        for text, predicted_L in enumerate(found["predicted"][image]):
            yield {
                "id": identity,
                "text": text,
                "masked_share": float(found["share"][image, text]),
                "positions": np.flatnonzero(predicted_L).tolist(),
                **{name: found[name][image, text][predicted_L].tolist() for name in _MEASURED if name != "signal"},
            }


def _write(subject: Subject, found: Mapping[str, np.ndarray]) -> None:
    # Shares are l / n, which lie on the edges of bins: those belong to the bin below.
    bin_SxT = np.ceil(found["share"] * _BINS - 1e-6).astype(int)
    names = {number: f"{(number - 1) / _BINS:g}-{number / _BINS:g}" for number in range(1, _BINS + 1)}
    parts = {_ALL: found["predicted"]}
    if len(np.unique(bin_SxT[bin_SxT > 0])) > 1:
        parts |= {name: found["predicted"] & (bin_SxT == number)[..., None] for number, name in names.items()}
    rows, curves = [], {name: {} for name in _LABELS}
    for part, where in parts.items():
        lines = []
        for position in range(where.shape[-1]):
            inside = where[..., position]
            tokens_S = inside.sum(1).astype(np.float64)
            if tokens_S.any():
                sums = [
                    np.sum(found[name][..., position], axis=1, dtype=np.float64, where=inside) for name in _MEASURED
                ]
                means, errors = zip(*(ratio.of_sums(value_S, tokens_S) for value_S in sums), strict=True)
                lines.append([part, position, int(tokens_S.sum()), *means, errors[_MEASURED.index("signal")]])
        rows += lines
        if lines:
            for name, courses in curves.items():
                place = 3 + _MEASURED.index(name)
                courses[f"masked share {part}"] = [np.array([[line[1], line[place]] for line in lines])]
    header = ("masked_share", "position", "tokens", *_MEASURED, "signal_standard_error")
    tables.write_csv(subject.out / "position_signal.csv", header, rows)
    for name, label in _LABELS.items():
        panels.save(panels.curves({"position of the token, from 0": curves[name]}, label), subject.out / f"{name}.svg")
