"""How the cost of a training step grows.

    python -m mdc_jax.benchmarks.scaling --config=configs/vits_cc3m.py [--csv=FILE]

Changes one of batch size, image size, caption length and vocabulary at a time, by factors of the config's value, on
made-up images and captions of full length. Batches are rounded to what the mesh divides, image sizes to whole patches.
Time that grows faster than the FLOPs says where efficiency is lost.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence

import jax
from absl import app, flags

from mdc_jax import command
from mdc_jax.benchmarks import step as step_
from mdc_jax.config import ConfigError, parse, sections, to_dict
from mdc_jax.objectives.sizes import encoder_sizes
from mdc_jax.report import tables
from mdc_jax.training import sharding

HEADER = ("changed", "to", "s a step", "images/s", "GFLOP an image", "GFLOP/s", "peak MB")
Setting = tuple[str, int, sections.Config, int]  # what is changed, its value, the config with it, and its vocabulary


def settings(config: sections.Config, factors: Sequence[float]) -> Iterator[Setting]:
    data, image, vocab_size = config.data, config.image, config.tokenizer.vocab_size
    rows = sharding.batch_ways(sharding.make_mesh(config.mesh)) * config.optimizer.accumulation
    patch = encoder_sizes(config.model.encoder).patch
    for factor in factors:
        size = _multiple(data.batch_size * factor, rows)
        changed = dataclasses.replace(config, data=dataclasses.replace(data, batch_size=size))
        yield "batch size", size, changed, vocab_size
    for factor in factors:
        size = _multiple(image.size * factor, patch)
        yield "image size", size, dataclasses.replace(config, image=dataclasses.replace(image, size=size)), vocab_size
    for factor in factors:
        length = round(data.max_tokens * factor)
        changed = dataclasses.replace(config, data=dataclasses.replace(data, max_tokens=length, buckets=()))
        yield "caption tokens", length, changed, vocab_size
    for factor in factors:
        size = round(vocab_size * factor)
        yield "vocabulary", size, config, size


def checked(config: sections.Config, factors: Sequence[str]) -> list[Setting]:
    """`settings`, all of which can be measured; raises ConfigError."""
    try:
        numbers = [float(factor) for factor in factors]
    except ValueError:
        numbers = [math.nan]
    if not all(0 < number < math.inf for number in numbers):
        raise ConfigError(f"--factors={','.join(factors)}: give numbers above 0, as in --factors=0.5,1,2")
    found = list(settings(config, numbers))
    for name, value, changed, vocab_size in found:
        try:
            step_.vocabularies([str(vocab_size)], changed)
            parse(to_dict(changed))
            sharding.check_batch(
                changed.data.batch_size, changed.optimizer.accumulation, sharding.make_mesh(config.mesh)
            )
        except ConfigError as error:
            raise ConfigError(f"--factors={','.join(factors)}: {name} {value:,} cannot be: {error}") from None
    return found


def _multiple(value: float, of: int) -> int:
    """The multiple of a number that is nearest, and not 0."""
    return max(round(value / of), 1) * of


def measure(config: sections.Config, vocab_size: int, repeats: int) -> tuple[float, ...]:
    """Seconds a step, images/s, GFLOP an image, GFLOP/s, peak MB of a configuration."""
    batch = step_.make_batch(config, vocab_size=vocab_size, caption_tokens=config.data.max_tokens)
    step, init = step_.prepare(config, batch, vocab_size=vocab_size)
    found = step_.measure({"": step}, init(), repeats)[""]
    speed = config.data.batch_size / found["seconds"]
    return found["seconds"], speed, found["flops"] / 1e9, speed * found["flops"] / 1e9, step.peak_bytes / 1e6


def main(_: list[str]) -> None:
    config = parse(command.given_config("configs/vits_cc3m.py"))
    step_.check_decoder(config)
    step_.check_counted(config)
    rows, csv = checked(config, flags.FLAGS.factors), command.place("csv", flags.FLAGS.csv)
    print(f"{jax.device_count()} x {jax.devices()[0].device_kind}\n{_line(HEADER)}\n{'|---' * len(HEADER)}|")
    measured: list[list[tables.Cell]] = []
    for name, value, changed, vocab_size in rows:
        numbers = measure(changed, vocab_size, flags.FLAGS.repeats)
        measured.append([name, value, *numbers])
        print(_line([name, f"{value:,}", *(f"{number:,.4g}" for number in numbers)]), flush=True)
    if csv:
        tables.write_csv(csv, HEADER, measured)


def _line(cells: Sequence[str]) -> str:
    """Of a Markdown table."""
    return "| " + " | ".join(f"{cell:<14}" for cell in cells) + " |"


if __name__ == "__main__":
    flags.DEFINE_list("factors", ["0.5", "1", "2"], "Of the config's value.")
    flags.DEFINE_integer("repeats", 3, "Measured steps of each row; the fastest counts.", lower_bound=1)
    flags.DEFINE_string("csv", "", "File for the numbers.")
    command.define_config()
    app.run(command.reported(main), flags_parser=command.parse_flags)
