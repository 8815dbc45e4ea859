"""What scoring captions costs, and how exact it is: `python -m mdc_jax.benchmarks.scoring --workdir=RUN [--csv=FILE]`.

Times every scorer of a run's objective on B images with C captions each, the image's own and those of
the next images; the encoder runs once for the B images. Where a scorer is a Monte-Carlo estimate, the
second table has its error against the number of masks: of a caption, and of its difference to the same
caption with one other word, with random numbers that the two share, and of their own. Of captions that are short
enough the bound itself is computed, from all their masks, and the estimate is held against it.

Shapes: B images, C captions of an image, L tokens.
"""

import functools
from collections.abc import Callable, Mapping

import jax
import numpy as np
from absl import app, flags

from mdc_jax import command
from mdc_jax.benchmarks.clock import fastest
from mdc_jax.data.pipeline import DATA_ERRORS, eval_batches
from mdc_jax.data.sources import open_source
from mdc_jax.exchange import loading
from mdc_jax.objectives.base import Features, Objective, Params
from mdc_jax.report import tables
from mdc_jax.scoring import elbo, enumeration

_REPLICATES = 8
_SAMPLES = (1, 2, 4, 8, 16)  # masks of a replicate
_KEYS = 8  # draws of every estimate, whose spread is its real error
HEADER = ("masks", "caption", "caption_claimed", "difference", "difference_claimed", "difference_independent")

Captions = Mapping[str, np.ndarray]  # as scorers take them


def with_next_captions(text: np.ndarray, length: np.ndarray, captions: int) -> Captions:
    """Each image's own caption and those of the next images: i32[B, L], i32[B] → `captions` of each."""
    return {
        "text": np.stack([np.roll(text, -shift, axis=0) for shift in range(captions)], axis=1),
        "length": np.stack([np.roll(length, -shift) for shift in range(captions)], axis=1),
    }


def with_one_word_changed(text: np.ndarray, length: np.ndarray) -> Captions:
    """Each image's own caption, and the same with the word in its middle from the next image's caption."""
    rows, middle = np.arange(len(text)), np.maximum(length - 1, 1) // 2
    changed = text.copy()
    donor = np.roll(text, -1, axis=0)
    changed[rows, middle] = donor[rows, np.minimum(middle, np.maximum(np.roll(length, -1) - 2, 0))]
    return {"text": np.stack([text, changed], axis=1), "length": np.stack([length, length], axis=1)}


def errors(objective: Objective, params: Params, features: Features, captions: Captions) -> list[list[tables.Cell]]:
    """Rows of HEADER, in nats, root mean squares over images: real errors are spreads over keys."""
    rows = []
    for samples in _SAMPLES:
        scorer = objective.scorer(
            lambda read, key, samples=samples: elbo.elbo(
                read.nll, read.maskable, key, positions=read.positions, replicates=_REPLICATES, samples=samples
            )
        )

        @jax.jit
        def score(key: jax.Array, scorer: Callable = scorer) -> tuple[jax.Array, ...]:
            found = scorer(params, features, captions, key)
            return found.value, found.standard_error, *found.difference(0, 1)

        draws = [jax.device_get(score(jax.random.key(i))) for i in range(_KEYS)]
        value, error, difference, difference_error = (np.stack(part) for part in zip(*draws, strict=True))
        rows.append(
            [
                _REPLICATES * samples,
                *(_rms(x) for x in (value.std(0, ddof=1)[:, 0], error[..., 0])),
                *(_rms(x) for x in (difference.std(0, ddof=1), difference_error)),
                _rms(np.hypot(error[..., 0], error[..., 1])),
            ]
        )
    return rows


def bias(objective: Objective, params: Params, features: Features, captions: Captions) -> tuple[int, float, float]:
    """How far the scorer "elbo" is from the bound, which all masks of a caption give: nats, positive where it is above.

    Returns the number of captions that are short enough for all their masks, their mean difference, and its standard
    error over keys, whose draws are independent; (0, nan, nan) where none is.
    """
    every = objective.scorer(lambda read, _: enumeration.exhaustive(read.nll, read.maskable))
    bound = np.asarray(jax.jit(every)(params, features, captions, jax.random.key(0)).value)
    short = np.isfinite(bound) & (np.asarray(captions["length"]) > 0)
    if not short.any():
        return 0, np.nan, np.nan
    estimate = jax.jit(objective.scorers["elbo"])
    draws = [estimate(params, features, captions, jax.random.key(i)).value for i in range(_KEYS)]
    means = [np.mean(np.asarray(value, np.float64)[short] - bound[short]) for value in draws]
    return int(short.sum()), float(np.mean(means)), float(np.std(means, ddof=1) / np.sqrt(_KEYS))


def _rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))


def main(_: list[str]) -> None:
    arguments = flags.FLAGS
    csv = command.place("csv", arguments.csv)
    loaded = loading.load(arguments.workdir)
    objective, params = loaded.objective, loaded.params
    source = open_source(loaded.config.data.test or loaded.config.data.validation)
    count = arguments.images
    batch = next(eval_batches(source, loaded.tokenizer, loaded.config, count=count, batch_size=count))
    text, length = batch["text"][:, 0], batch["length"][:, 0]
    captions = with_next_captions(text, length, arguments.captions)

    encode = jax.jit(
        lambda params, images: {key: objective.encode(params, images)[key] for key in ("tokens", "pooled")}
    )
    features = encode(params, batch["image"])
    rows = [["encoder, once", "", fastest(lambda: encode(params, batch["image"]), arguments.repeats), ""]]
    for name, scorer in objective.scorers.items():
        run = jax.jit(scorer)
        kind = run(params, features, captions, jax.random.key(0)).kind
        seconds = fastest(functools.partial(run, params, features, captions, jax.random.key(0)), arguments.repeats)
        rows.append([name, kind, seconds, f"{captions['length'].size / seconds:,.0f}"])
    print(f"{count} images, {arguments.captions} captions each, {text.shape[1]} tokens\n")
    cells = [[name, kind, f"{1e3 * seconds:,.1f}", rate] for name, kind, seconds, rate in rows]
    print(tables.markdown(["", "estimates", "ms", "captions/s"], cells))

    if "elbo" not in objective.scorers:
        print("no scorer is a Monte-Carlo estimate: there is no error to measure")
        return
    found = errors(objective, params, features, with_one_word_changed(text, length))
    print("errors in nats, root mean squares:\n")
    print(tables.markdown(HEADER, [[str(row[0]), *(f"{value:.3f}" for value in row[1:])] for row in found]))
    own = {key: value[:, :1] for key, value in captions.items()}
    short, difference, error = bias(objective, params, features, own)
    print(f"{short} of {count} captions have at most {enumeration.MOST_TOKENS} tokens to mask")
    if short:
        print(f"there elbo is on average {difference:+.3f} ± {error:.3f} nats from the bound that all masks give")
    if csv:
        tables.write_csv(csv, HEADER, found)


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "The run whose objective scores.", required=True)
    flags.DEFINE_integer("images", 32, "Images B.", lower_bound=2)
    flags.DEFINE_integer("captions", 8, "Captions C of an image.", lower_bound=1)
    flags.DEFINE_integer("repeats", 5, "Timings of each scorer, after the first.", lower_bound=1)
    flags.DEFINE_string("csv", None, "File for the error against the number of masks.")
    app.run(command.reported(main, *DATA_ERRORS), flags_parser=command.parse_flags)
