"""What checkpoints cost: `python -m mdc_jax.benchmarks.checkpoint --config=configs/scenes.py --gigabytes=1`.

Prints the share of the time that training at checkpoint.every loses to saving, and how fast a state is written and
read. The time that is lost is that of as many steps as a save takes, less that of the same steps without one.
"""

import dataclasses
import itertools
import tempfile
from collections.abc import Iterator

import jax
import numpy as np
from absl import app, flags
from etils import epath

from mdc_jax import command
from mdc_jax.benchmarks import step as step_
from mdc_jax.benchmarks.clock import Clock
from mdc_jax.config import parse, sections, steps
from mdc_jax.data.sources import open_source
from mdc_jax.training import checkpoint, sharding
from mdc_jax.training.state import State

_VOCAB_SIZE, _CAPTION_TOKENS = 1_000, 25
_MOST = 200  # steps that are measured at once
_PIECES = 8  # of the state that is written and read


@dataclasses.dataclass(frozen=True)
class Lost:
    """What saving takes from training, in seconds of (wall time, processor time of all threads)."""

    every: int  # steps
    step_seconds: np.ndarray
    seconds: np.ndarray  # lost to a save

    @property
    def share(self) -> np.ndarray:
        """Of the time between two saves."""
        return self.seconds / (self.seconds + self.every * self.step_seconds)


def lost(config: sections.Config, folder: epath.Path, *, every: int, repeats: int) -> Lost:
    """Measures a config's step with and without a save in the background; medians of `repeats`."""
    batch = step_.make_batch(config, vocab_size=_VOCAB_SIZE, caption_tokens=_CAPTION_TOKENS)
    prepared, init = step_.prepare(config, batch, vocab_size=_VOCAB_SIZE)
    checkpointer, state = checkpoint.Checkpointer(folder), init()
    numbers = itertools.count(1)

    def train(count: int) -> np.ndarray:
        """Runs as many steps; returns the seconds."""
        nonlocal state
        clock = Clock()
        for _ in range(count):
            state, metrics = prepared.run(state, prepared.batch)
            jax.block_until_ready(metrics)
        return clock.read()

    def save() -> np.ndarray:
        clock = Clock()
        checkpointer.save(next(numbers), state, {})
        return clock.read()

    train(3)
    save()  # the first one makes folders and threads
    clock = Clock()
    checkpointer.wait()
    took = clock.read()
    one = train(5) / 5
    count = min(max(10, round(2 * took[0] / one[0])), _MOST)  # outlasts a save
    with_, without = [], []
    for _ in range(repeats):
        without.append(train(count))
        blocked = save()
        rest = train(count)
        clock = Clock()
        checkpointer.wait()
        with_.append(blocked + rest + clock.read())
    checkpointer.close()
    alone = np.median(without, axis=0)
    return Lost(every, alone / count, np.maximum(np.median(with_, axis=0) - alone, 0))


def speed(gigabytes: float, folder: epath.Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the name and the seconds of blocking the caller, writing all, and reading a state of random numbers."""
    place = sharding.replicated(sharding.make_mesh(sections.Mesh(), jax.devices()[:1]))
    rng, size = np.random.default_rng(0), round(gigabytes * 1e9 / 4 / _PIECES)
    pieces = [jax.device_put(rng.standard_normal(size, np.float32), place) for _ in range(_PIECES)]
    params, averages = (dict(zip("abcd", half, strict=True)) for half in (pieces[::2], pieces[1::2]))
    state = State(jax.device_put(np.int32(1), place), params, averages, None)
    checkpointer = checkpoint.Checkpointer(folder)
    clock = Clock()
    checkpointer.save(1, state, {})
    yield "a save blocks training for", clock.read()
    checkpointer.wait()
    yield "and is on disk after", clock.read()
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    del state, params, averages, pieces
    clock = Clock()
    jax.block_until_ready(checkpointer.restore(1, abstract))
    yield "and is restored in", clock.read()
    checkpointer.close()


def main(_: list[str]) -> None:
    options = flags.FLAGS
    config = parse(command.given_config("configs/scenes.py"))
    records = len(open_source(config.data.train))
    every = steps(config.checkpoint.every, batch_size=config.data.batch_size, examples_per_epoch=records)
    with tempfile.TemporaryDirectory(dir=options.folder or None) as folder:
        if options.gigabytes:
            print(f"a state of {options.gigabytes:g} GB, in {options.folder or tempfile.gettempdir()}")
            for name, seconds in speed(options.gigabytes, epath.Path(folder) / "speed"):
                print(f"  {name:<28}{seconds[0]:8.2f} s, of the processor {seconds[1]:.2f} s")
        found = lost(config, epath.Path(folder) / "lost", every=every, repeats=options.repeats)
    for index, name in enumerate(("wall time", "processor time")):
        step, save, share = found.step_seconds[index], found.seconds[index], found.share[index]
        print(
            f"{name}: a step takes {step:.3f} s, a save every {every:,} steps {save:.3f} s more: a share of {share:.2%}"
        )


if __name__ == "__main__":
    flags.DEFINE_string("folder", "", "Of the disk to measure; default: that of temporary files.")
    flags.DEFINE_float("gigabytes", 1.0, "Of a state that is written and read; 0: none.", lower_bound=0)
    flags.DEFINE_integer("repeats", 5, "Saves that are measured.", lower_bound=1)
    command.define_config()
    app.run(command.reported(main), flags_parser=command.parse_flags)
