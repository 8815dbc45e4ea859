"""What reading and batching cost beside the encoder: images/s of features, against those of the encoder alone.

    python -m mdc_jax.benchmarks.extract --config=configs/vitb_recap.py --config.model.dtype=float32 \\
        --images=24 --batch_size=8 --repeats=2

Encodes with an untrained encoder of the config, in turns in one process: "encoder alone", one batch that is on the
device already, again and again; "arrays", images of the encoder's size in memory, through `features.Encoder`; "JPEG
files", 512 x 384 pixels each, which threads read and decode meanwhile. On a CPU these threads take their time from the
encoder. Processor time is that of this process, all threads: it says more where other work runs on the machine.
"""

import pathlib
import tempfile
from collections.abc import Callable, Mapping

import jax
import numpy as np
from absl import app, flags

from mdc_jax import batching, command, features
from mdc_jax.benchmarks import photographs
from mdc_jax.benchmarks import step as step_
from mdc_jax.benchmarks.clock import Clock
from mdc_jax.config import parse, sections
from mdc_jax.report import tables
from mdc_jax.training import checkpoint, sharding

ALONE, ARRAYS, FILES = "encoder alone", "arrays", "JPEG files"
_JPEG = (384, 512)  # pixels, height and width
_PHOTOGRAPHS = 64  # at most; more images are these again
_VOCABULARY = 1_000  # of the decoder, which does not run


def untrained(config: sections.Config, batch_size: int) -> features.Encoder:
    """An encoder as training would start from."""
    mesh = sharding.make_mesh(sections.Mesh())
    objective = step_.objective_of(config, _VOCABULARY)
    params = jax.jit(objective.init)(jax.random.key(0))
    params = jax.device_put(params, sharding.shardings(params, mesh))
    # There is no tokenizer, since no text is read.
    return features.Encoder(checkpoint.Loaded(config, objective, params, None, mesh, step=0, meta={}), batch_size)


def alone(encoder: features.Encoder, images: np.ndarray, batches: int) -> Callable[[], None]:
    """Encodes one batch so many times; as the device is handed the next call before it is through with the last."""
    loaded, function = encoder.loaded, encoder.function()
    rows = encoder.rows(len(images))
    batch = sharding.to_global({"image": images[:rows]}, loaded.mesh, rows)
    key = jax.random.key(0)

    def run() -> None:
        found = [function(loaded.objective, loaded.params, batch, key) for _ in range(batches)]
        jax.block_until_ready(found)

    return run


def measure(encoder: features.Encoder, images: int, repeats: int, folder: pathlib.Path) -> dict[str, dict[str, float]]:
    """Row → its fastest "seconds" and "processor_seconds" for so many images, of which batches are full."""
    size = encoder.loaded.config.image.size
    names = [folder / f"{index}.jpg" for index in range(min(images, _PHOTOGRAPHS))]
    for file, data in zip(names, photographs.jpegs(*_JPEG, len(names)), strict=True):
        file.write_bytes(data)
    files = [names[index % len(names)] for index in range(images)]
    arrays = np.stack([batching.prepare(file, sections.Image(size=size)) for file in files])
    runs: Mapping[str, Callable[[], object]] = {
        ALONE: alone(encoder, arrays, images // encoder.rows(images)),
        ARRAYS: lambda: encoder(arrays),
        FILES: lambda: encoder(files),
    }
    found: dict[str, dict[str, float]] = {name: {} for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            clock = Clock()
            run()
            once = clock.named()
            if repeat:  # the first compiles
                found[name] = {key: min(value, found[name].get(key, value)) for key, value in once.items()}
    return found


def table(found: Mapping[str, Mapping[str, float]], images: int) -> str:
    rows = []
    for name, row in found.items():
        share = found[ALONE]["seconds"] / row["seconds"]
        processor = found[ALONE]["processor_seconds"] / row["processor_seconds"]
        rows.append([name, f"{images / row['seconds']:,.2f}", f"{share:.3f}", f"{processor:.3f}"])
    return tables.markdown(["", "images/s", "share of the encoder's", "by processor time"], rows)


def main(_: list[str]) -> None:
    config = parse(command.given_config("configs/vitb_recap.py"))
    encoder = untrained(config, flags.FLAGS.batch_size)
    rows = encoder.rows(flags.FLAGS.images)
    images = -(-flags.FLAGS.images // rows) * rows
    with tempfile.TemporaryDirectory() as folder:
        found = measure(encoder, images, flags.FLAGS.repeats, pathlib.Path(folder))
    kind = jax.devices()[0].device_kind
    print(f"{images} images in batches of {rows}, {config.model.dtype}, {jax.device_count()} x {kind}")
    print(table(found, images), flush=True)


if __name__ == "__main__":
    flags.DEFINE_integer("images", 1_024, "Images, rounded up to whole batches.", lower_bound=1)
    flags.DEFINE_integer("batch_size", 128, "Images that are encoded at once.", lower_bound=1)
    flags.DEFINE_integer("repeats", 3, "Measured runs of each row; the fastest counts.", lower_bound=1)
    command.define_config()
    app.run(command.reported(main), flags_parser=command.parse_flags)
