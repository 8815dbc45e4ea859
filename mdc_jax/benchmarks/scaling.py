"""How the cost of a training step grows: `python -m mdc_jax.benchmarks.scaling --config=configs/vits_cc3m.py`.

Changes one of batch size, image size, caption length and vocabulary at a time, by factors of the config's value, on
made-up images and captions of full length. Time that grows faster than the FLOPs says where efficiency is lost.
"""

import dataclasses
from collections.abc import Iterator

import jax
from absl import app, flags

from mdc_jax import command
from mdc_jax.benchmarks import step as step_
from mdc_jax.config import ConfigError, parse, sections
from mdc_jax.report import tables


def settings(config: sections.Config, factors: list[float]) -> Iterator[tuple[str, int, sections.Config, int]]:
    """What is changed, its value, the config with it, and the size of the vocabulary."""
    data, image, vocab_size = config.data, config.image, config.tokenizer.vocab_size
    for factor in factors:
        size = round(data.batch_size * factor)
        yield (
            "batch size",
            size,
            dataclasses.replace(config, data=dataclasses.replace(data, batch_size=size)),
            vocab_size,
        )
    for factor in factors:
        size = round(image.size * factor)
        yield "image size", size, dataclasses.replace(config, image=dataclasses.replace(image, size=size)), vocab_size
    for factor in factors:
        length = round(data.max_tokens * factor)
        changed = dataclasses.replace(config, data=dataclasses.replace(data, max_tokens=length))
        yield "caption tokens", length, changed, vocab_size
    for factor in factors:
        size = round(vocab_size * factor)
        yield "vocabulary", size, config, size


def measure(config: sections.Config, vocab_size: int, repeats: int) -> list[str]:
    """Seconds a step, images/s, GFLOP an image, GFLOP/s, peak MB of a configuration."""
    batch = step_.make_batch(config, vocab_size=vocab_size, caption_tokens=config.data.max_tokens)
    step, init = step_.prepare(config, batch, vocab_size=vocab_size)
    found = step_.measure({"": step}, init(), repeats)[""]
    speed = config.data.batch_size / found["seconds"]
    numbers = found["seconds"], speed, found["flops"] / 1e9, speed * found["flops"] / 1e9, step.peak_bytes / 1e6
    return [f"{number:,.4g}" for number in numbers]


def main(_: list[str]) -> None:
    if flags.FLAGS.config is None:
        raise ConfigError("give a config, as in --config=configs/vits_cc3m.py; --config=help lists them")
    config = parse(flags.FLAGS.config)
    step_.check_decoder(config)
    rows = [
        [name, f"{value:,}", *measure(changed, vocab_size, flags.FLAGS.repeats)]
        for name, value, changed, vocab_size in settings(config, [float(factor) for factor in flags.FLAGS.factors])
    ]
    header = ["changed", "to", "s a step", "images/s", "GFLOP an image", "GFLOP/s", "peak MB"]
    print(f"{jax.device_count()} x {jax.devices()[0].device_kind}\n{tables.markdown(header, rows)}")


if __name__ == "__main__":
    flags.DEFINE_list("factors", ["0.5", "1", "2"], "Of the config's value.")
    flags.DEFINE_integer("repeats", 3, "Measured steps of each row; the fastest counts.", lower_bound=1)
    command.define_config()
    app.run(command.reported(main), flags_parser=command.parse_flags)
