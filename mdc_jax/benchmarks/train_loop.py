"""What the input costs training: `python -m mdc_jax.benchmarks.train_loop --config=configs/scenes.py`.

Trains on fresh data and on one repeated batch in turn, and prints images/s of both, their ratio,
and the bound that the input's share of the CPU time sets where both share the same cores.
"""

import dataclasses
import statistics
import tempfile
import time

from absl import app, flags
from etils import epath

from mdc_jax import command
from mdc_jax.config import parse, sections
from mdc_jax.data.pipeline import DATA_ERRORS, TrainBatches
from mdc_jax.data.sources import open_source
from mdc_jax.data.tokenizer import Tokenizer
from mdc_jax.report.metrics_file import read
from mdc_jax.training import checkpoint, loop

_REPORTS = 20  # windows a run; the first ones compile and warm up


def images_per_second(config: sections.Config, workdir: epath.Path) -> float:
    """Median speed over the windows of a run, warm-up left out."""
    loop.train(config, workdir)
    speeds = [line["train/images_per_second"] for line in read(workdir) if "train/images_per_second" in line]
    return statistics.median(speeds[_REPORTS // 4 :])


def main(_: list[str]) -> None:
    steps = flags.FLAGS.steps
    config = dataclasses.replace(
        parse(command.given_config("configs/scenes.py")),
        duration=f"{steps} steps",
        evaluators={},
        log=sections.Log(every=f"{max(steps // _REPORTS, 1)} steps", tensorboard=False),
        checkpoint=sections.Checkpoint(every=f"{10 * steps} steps"),
    )
    repeated = dataclasses.replace(config, data=dataclasses.replace(config.data, repeat_batch=True))
    with tempfile.TemporaryDirectory() as folder:
        root = epath.Path(folder)
        pairs, cpu = [], []
        for i in range(flags.FLAGS.repeats):
            before = time.process_time()
            fresh = images_per_second(config, root / f"fresh{i}")
            cpu.append(time.process_time() - before)
            pairs.append((fresh, images_per_second(repeated, root / f"repeated{i}")))

        tokenizer = Tokenizer.load(root / "fresh0" / checkpoint.TOKENIZER)
        batches = TrainBatches(open_source(config.data.train), tokenizer, config, position=0)
        next(batches)
        before = time.process_time()
        for _ in range(steps):
            next(batches)
        share = (time.process_time() - before) / statistics.median(cpu)
        batches.close()

    ratio = statistics.median(fresh / same for fresh, same in pairs)
    print(f"{'fresh data':<42}{statistics.median(fresh for fresh, _ in pairs):10,.0f} images/s")
    print(f"{'one repeated batch':<42}{statistics.median(same for _, same in pairs):10,.0f} images/s")
    print(f"{'ratio, median of pairs':<42}{ratio:10.3f}")
    print(f"{'share of CPU time that is input':<42}{share:10.3f}")
    print(f"{'ratio / (1 - share)':<42}{ratio / (1 - share):10.3f}")


if __name__ == "__main__":
    flags.DEFINE_integer("steps", 600, "Steps of each measured run.")
    flags.DEFINE_integer("repeats", 3, "Runs of each kind.")
    command.define_config()
    app.run(command.reported(main, *DATA_ERRORS), flags_parser=command.parse_flags)
