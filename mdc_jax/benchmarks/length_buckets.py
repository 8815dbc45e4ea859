"""What length buckets save: `python -m mdc_jax.benchmarks.length_buckets --config=... --config.data.buckets=...`.

Makes batches with and without buckets, and times the training step at every length that these have. Prints
milliseconds a batch, and of processor time, which other work on the same cores does not change.
"""

import collections
import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from absl import app, flags

from mdc_jax import command
from mdc_jax.benchmarks import step as step_
from mdc_jax.benchmarks.clock import Clock
from mdc_jax.config import ConfigError, parse, sections
from mdc_jax.data.batch import Batch
from mdc_jax.data.captions import make_tokenizer
from mdc_jax.data.pipeline import DATA_ERRORS, TrainBatches
from mdc_jax.data.sources import open_source
from mdc_jax.data.tokenizer import Tokenizer


class Made(NamedTuple):
    lengths: collections.Counter[int]  # batches by the tokens of a text
    real: float  # share of the tokens that are no pads
    spent: np.ndarray  # f64[2], milliseconds of a batch, and of processor time
    examples: Mapping[int, Batch]  # one batch of each length


def timed(work: Callable[[], Any]) -> tuple[Any, np.ndarray]:
    """What `work` returns; its milliseconds, and those of processor time, f64[2]."""
    clock = Clock()
    result = work()
    return result, 1e3 * clock.read()


def make(config: sections.Config, tokenizer: Tokenizer, keys: tuple[str, ...], count: int) -> Made:
    """Makes `count` batches."""
    source = open_source(config.data.train)
    with TrainBatches(source, tokenizer, config, position=0, keys=keys) as batches:
        made, spent = timed(lambda: list(itertools.islice(batches, count)))
    examples = {batch["text"].shape[-1]: batch for batch in made}
    real = sum(batch["length"].sum() for batch in made) / sum(batch["text"].size for batch in made)
    return Made(collections.Counter(batch["text"].shape[-1] for batch in made), real, spent / count, examples)


def time_steps(
    config: sections.Config, vocab_size: int, examples: Mapping[int, Batch], timings: int
) -> dict[int, np.ndarray]:
    """By length, the milliseconds of the fastest training step and of its processor time, f64[2]."""
    prepared = {length: step_.prepare(config, batch, vocab_size=vocab_size) for length, batch in examples.items()}
    init = next(iter(prepared.values()))[1]
    found = step_.measure({length: step for length, (step, _) in prepared.items()}, init(), timings)
    return {length: 1e3 * np.array([row["seconds"], row["processor_seconds"]]) for length, row in found.items()}


def main(_: list[str]) -> None:
    config = parse(command.given_config("configs/vitb_recap.py"))
    step_.check_decoder(config)
    if not config.data.buckets:
        raise ConfigError("data.buckets=(): give lengths, as in --config.data.buckets='(16, 32, 64)'")
    tokenizer = make_tokenizer(config, open_source(config.data.train))
    keys = step_.objective_of(config, tokenizer.vocab_size).batch_keys
    plain = dataclasses.replace(config, data=dataclasses.replace(config.data, buckets=()))
    made = {
        name: make(kind, tokenizer, keys, flags.FLAGS.batches) for name, kind in (("without", plain), ("with", config))
    }
    steps = time_steps(
        config, tokenizer.vocab_size, made["without"].examples | made["with"].examples, flags.FLAGS.timings
    )

    print(f"{'tokens of a text':<20}{'batches':>10}{'ms a step':>12}{'processor':>12}")
    for length, (wall, cpu) in sorted(steps.items()):
        print(f"{length:<20}{made['with'].lengths[length]:10}{wall:12.1f}{cpu:12.1f}")
    print(f"\n{'':<20}{'no pads':>10}{'ms a step':>12}{'processor':>12}{'ms of input':>14}{'processor':>12}")
    whole = {}
    for name, kind in made.items():
        step = sum(count * steps[length] for length, count in kind.lengths.items()) / flags.FLAGS.batches
        whole[name] = (step + kind.spent)[1]
        cells = "".join(
            f"{value:{width}.1f}" for value, width in zip((*step, *kind.spent), (12, 12, 14, 12), strict=True)
        )
        print(f"{name + ' buckets':<20}{kind.real:10.3f}{cells}")
    print(f"\nprocessor time of step and input, with / without: {whole['with'] / whole['without']:.3f}")


if __name__ == "__main__":
    flags.DEFINE_integer("batches", 256, "Batches that are made of each kind.", lower_bound=1)
    flags.DEFINE_integer("timings", 10, "Timings of each step, after the first.", lower_bound=1)
    command.define_config()
    app.run(command.reported(main, *DATA_ERRORS), flags_parser=command.parse_flags)
