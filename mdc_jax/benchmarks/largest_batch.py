"""The largest batch whose training step fits into a device, with the loss at masked tokens only and the plain way:

    python -m mdc_jax.benchmarks.largest_batch --config=configs/vitb_recap.py --vocabulary=32000,256000

The compiler says what a step takes at some sizes, in multiples of 8 images that mesh and accumulation divide, until
the largest that fits is known to 2%; all are printed, and that one is run. "plain" is that of
`mdc_jax.benchmarks.train_step`. Kernels are not tuned, and the compiler is kept from computing activations again
where they do not fit.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
from absl import app, flags

from mdc_jax import command
from mdc_jax.benchmarks import step as step_
from mdc_jax.benchmarks.train_step import OURS, PLAIN, plain_loss
from mdc_jax.config import ConfigError, parse, sections
from mdc_jax.report import tables
from mdc_jax.training import sharding
from mdc_jax.training.memory import capacity

_SHARE = 0.02
_MOST = 2**20  # images: where peaks do not grow, no batch is too large
_OPTIONS = {
    "xla_gpu_autotune_level": 0,
    "xla_gpu_memory_limit_slop_factor": 10_000,  # % of the memory beyond which it computes again
}


def largest(peak: Callable[[int], float], limit: float, multiple: int = 8) -> int:
    """The largest batch of images for which `peak` is at most `limit`, to 2% or to `multiple`; 0 if there is none.

    Sizes are tried where a line through the last two meets the limit, between one that fits and one that does not.
    """
    taken = {size: peak(size) for size in (8 * multiple, 16 * multiple)}
    while True:
        fits = max((size for size in taken if taken[size] <= limit), default=0)
        bursts = min((size for size in taken if taken[size] > limit), default=None)
        if fits >= _MOST or (bursts is not None and bursts - fits <= max(multiple, _SHARE * fits)):
            return fits
        (a, at_a), (b, at_b) = list(taken.items())[-2:]
        guess = b + (limit - at_b) * (b - a) / max(at_b - at_a, 1)
        highest = 8 * fits if bursts is None else bursts - multiple
        guess = min(max(guess, fits + multiple), highest) // multiple * multiple
        if guess in taken:  # peaks that do not grow with the batch
            guess = (fits + (bursts or 4 * fits)) // 2 // multiple * multiple
        taken[int(guess)] = peak(int(guess))


def measure(config: sections.Config, *, vocab_size: int, caption_tokens: int, limit: float, plain: bool) -> int:
    """The largest batch whose step takes at most `limit` bytes, of which one step was run."""

    def prepare(batch_size: int) -> tuple[step_.Step, Callable[[], step_.State]]:
        sized = dataclasses.replace(config, data=dataclasses.replace(config.data, batch_size=batch_size))
        batch = step_.make_batch(sized, vocab_size=vocab_size, caption_tokens=caption_tokens)
        loss = plain_loss if plain else None
        return step_.prepare(sized, batch, vocab_size=vocab_size, loss=loss, options=_OPTIONS)

    def peak(batch_size: int) -> float:
        taken = prepare(batch_size)[0].peak_bytes
        way = PLAIN if plain else OURS
        print(f"vocabulary {vocab_size:,}, {way}: {batch_size:,} images take {taken / 1e9:.1f} GB", flush=True)
        return taken

    rows = sharding.batch_ways(sharding.make_mesh(config.mesh)) * config.optimizer.accumulation
    size = largest(peak, limit, math.lcm(8, rows))
    if size:
        step, init = prepare(size)
        step_.measure({"": step}, init(), 1)
    return size


def main(_: list[str]) -> None:
    config = step_.resolved(parse(command.given_config("configs/vitb_recap.py")))
    step_.check_decoder(config)
    device = jax.local_devices()[0]
    limit = flags.FLAGS.gigabytes * 1e9 if flags.FLAGS.gigabytes else capacity(device)
    if limit is None:
        raise ConfigError(f"the memory of a {device.device_kind} is not known: give --gigabytes")
    rows = []
    for vocabulary in step_.vocabularies(flags.FLAGS.vocabulary, config):
        sizes = {
            name: measure(
                config,
                vocab_size=vocabulary,
                caption_tokens=flags.FLAGS.caption_tokens,
                limit=limit,
                plain=name == PLAIN,
            )
            for name in (PLAIN, OURS)
        }
        rows.append([f"{vocabulary:,}", *map(str, sizes.values()), f"{sizes[OURS] / max(sizes[PLAIN], 1):.2f}"])
    print(f"{config.model.dtype}, remat {config.model.remat}, {limit / 1e9:.1f} GB of a {device.device_kind}")
    print(tables.markdown(["vocabulary", PLAIN, OURS, "ratio"], rows))


if __name__ == "__main__":
    flags.DEFINE_list("vocabulary", None, "Vocabulary sizes; default: the config's.")
    flags.DEFINE_integer("caption_tokens", 25, "Tokens of every caption, EOS included.", lower_bound=1)
    flags.DEFINE_float("gigabytes", 0, "Of a device; 0: what it says.", lower_bound=0)
    command.define_config()
    app.run(command.reported(main), flags_parser=command.parse_flags)
