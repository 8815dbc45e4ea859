"""What the input costs by stage, and what others take: `python -m mdc_jax.benchmarks.input_pipeline [--csv=FILE]`.

Four tables. Stages and decoders: processor time on one core, so that other work on the machine counts little; repeats
take turns, and medians are shown. Threads and readers: wall time, so that the machine should be idle. tf.data and torch
are measured where they are installed; neither is needed for anything else. The CSV has every number, a line each.
"""

import contextlib
import dataclasses
import os
import pathlib
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import cv2
import numpy as np
from absl import app, flags

from mdc_jax import command
from mdc_jax.benchmarks import other_decoders, photographs
from mdc_jax.config import sections
from mdc_jax.data import augmentation, images, tokenizer
from mdc_jax.data.pipeline import TrainBatches
from mdc_jax.data.prepare import records
from mdc_jax.data.prepare.example import Example
from mdc_jax.data.prepare.lengths import WORDS
from mdc_jax.data.prepare.manifest import Manifest
from mdc_jax.data.sources import open_source
from mdc_jax.data.sources.base import Record, Source
from mdc_jax.data.tokenizer import Tokenizer
from mdc_jax.report import tables

SIZE = 224
RECORDS = {"512x384": (384, 512), "1024x768": (768, 1024), "short side 256": (256, 341)}  # height, width
READERS = (1, 4, 16, 64, 128, 0)  # 0: chosen from the measurement
LATENCY = 0.05  # seconds
HEADER = ("photographs", "table", "row", "measure", "value")
AUGMENTED = sections.Image(size=SIZE, flip=True, color_jitter=0.4)  # beside the crop, which the resize contains

_SPEED, _COST, _SHARE = "images/s", "CPU-s per 1,000 images", "speed / (decode + resize)"
_DIFFERENCE, _FASTER = "difference to Pillow", "mdc_jax faster by"
_SPEED_UP, _AT_ONCE = "speed-up", "read at once"
_DECIMALS = {_COST: 3, _SHARE: 3, _DIFFERENCE: 2, _FASTER: 2, _SPEED_UP: 2}  # of what is shown; others have none

_BATCH = 32
_CAPTION_WORDS = (
    "two",
    "red",
    "flowers",
    "in",
    "front",
    "of",
    "old",
    "temple",
    "roofs",
    "under",
    "a",
    "blue",
    "sky",
    "near",
)


@dataclasses.dataclass(frozen=True)
class Data:
    """Photographs with captions, in memory and as a source."""

    encoded: Sequence[bytes]
    captions: Sequence[str]
    source: Source
    tokenizer: Tokenizer


@contextlib.contextmanager
def prepared(height: int, width: int, count: int) -> Iterator[Data]:
    """Writes a shard of photographs with captions of 20 words; removes it in the end."""
    rng = np.random.default_rng(0)
    encoded = photographs.jpegs(height, width, count)
    captions = [" ".join(rng.choice(_CAPTION_WORDS, 20)) for _ in encoded]
    examples = [Example(data, (text,)) for data, text in zip(encoded, captions, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        manifest = Manifest("photographs", "", "", {}, {})
        manifest.shards["train.arrayrecord"] = records.write_shard(
            path / "train.arrayrecord", "train", "", examples, WORDS
        )
        manifest.complete = True
        manifest.write(path)
        trained = tokenizer.train(captions, sections.Tokenizer(vocab_size=300))
        yield Data(encoded, captions, open_source(f"array_record:{folder}:train"), trained)


class InMemory:
    """Images that are decoded and resized already: what is left to do is tokenizing and making batches."""

    spec, fingerprint, families = "memory", "", {}

    def __init__(self, found: Sequence[Record]) -> None:
        self.found = found

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, index: int) -> Record:
        return self.found[index]


class Delayed(InMemory):
    """Records that come after a wait, as from a bucket."""

    def __getitem__(self, index: int) -> Record:
        time.sleep(LATENCY)
        return super().__getitem__(index)


def config(**data: int) -> sections.Config:
    return sections.Config(image=sections.Image(size=SIZE), data=sections.Data(**({"batch_size": _BATCH} | data)))


def in_turns(works: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Processor seconds of every repeat of each work, after one that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(repeats + 1):
        for name, work in works.items():
            begin = time.process_time()
            work()
            if repeat:
                seconds[name].append(time.process_time() - begin)
    return seconds


def stages(data: Data, repeats: int) -> dict[str, list[float]]:
    """Processor seconds for all images: each stage alone, the whole, and the bare decode and resize calls."""
    settings, count = config().image, len(data.encoded)
    needed = images.pixels_needed(settings)
    pixels = [images.decode(encoded, needed) for encoded in data.encoded]
    rng = np.random.default_rng(0)
    ready = InMemory([Record(images.prepare(p, settings), (c,)) for p, c in zip(pixels, data.captions, strict=True)])

    def whole(source: Source) -> Callable[[], None]:
        batches = TrainBatches(source, data.tokenizer, config(threads=0, readers=1), position=0)

        def work() -> None:
            for _ in range(count // _BATCH):
                next(batches)

        return work

    works = {
        "read": lambda: [data.source[index] for index in range(count)],
        "decode": lambda: [images.decode(encoded, needed) for encoded in data.encoded],
        "crop, resize": lambda: [images.prepare(image, settings) for image in pixels],
        "augment": lambda: [augmentation.augment(record.image, AUGMENTED, rng) for record in ready.found],
        "tokenize": lambda: [data.tokenizer.encode(caption, 64) for caption in data.captions],
        "batch": whole(ready),
        "whole": whole(data.source),
        "decode + resize": lambda: [images.prepare(encoded, settings) for encoded in data.encoded],
    }
    seconds = in_turns(works, repeats)
    tokens = statistics.median(seconds["tokenize"])
    seconds["batch"] = [max(0.0, value - tokens) for value in seconds["batch"]]  # which tokenizes, too
    return seconds


def decoders(encoded: Sequence[bytes], repeats: int) -> list[tuple[str, list[float] | None, float]]:
    """Name, processor seconds for all images (None: not installed), and mean absolute difference to Pillow's."""
    settings = config().image
    made = {
        "mdc_jax": lambda: [images.prepare(data, settings) for data in encoded],
        "Pillow, bilinear": other_decoders.pillow(encoded, SIZE),
        "cv2, INTER_AREA": other_decoders.opencv(encoded, SIZE, cv2.INTER_AREA),
        "cv2, INTER_LINEAR": other_decoders.opencv(encoded, SIZE, cv2.INTER_LINEAR),
        "tf.data, antialiased": other_decoders.tf_data(encoded, SIZE),
        "torch DataLoader, Pillow": other_decoders.torch_loader(encoded, SIZE),
    }
    there = {name: decode for name, decode in made.items() if decode is not None}
    expected = there["Pillow, bilinear"]()
    differences = {name: _difference(decode(), expected) for name, decode in there.items()}
    seconds = in_turns(there, repeats)
    return [(name, seconds.get(name), differences.get(name, np.nan)) for name in made]


def _difference(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    pairs = zip(found, expected, strict=True)
    return float(np.mean([np.abs(np.rint(a).astype(int) - b).mean() for a, b in pairs]))


def wall(source: Source, data: Data, batches: int, settings: sections.Config, warm_up: int) -> tuple[float, int]:
    """Images per second after `warm_up` batches, and how many records were read at once."""
    with TrainBatches(source, data.tokenizer, settings, position=0) as made:
        for _ in range(warm_up):
            next(made)
        begin = time.perf_counter()
        for _ in range(batches):
            next(made)
        return batches * settings.data.batch_size / (time.perf_counter() - begin), made.readers


def two_threads(data: Data, repeats: int) -> tuple[float, float, float]:
    """Images per second with one and with two threads, in turns, and the median of their ratios."""
    speeds = [
        [wall(data.source, data, 16, config(threads=threads, readers=1), warm_up=6)[0] for threads in (1, 2)]
        for _ in range(repeats)
    ]
    one, two = zip(*speeds, strict=True)
    return statistics.median(one), statistics.median(two), statistics.median(b / a for a, b in speeds)


def delayed(data: Data) -> list[tuple[int, int, float]]:
    """For each of READERS: that, the records that were read at once, and images per second from the start on."""
    found = [data.source[index] for index in range(len(data.source))]
    lines = []
    for readers in READERS:
        settings = config(threads=os.cpu_count() or 1, readers=readers, batch_size=64)
        speed, count = wall(Delayed(found), data, 8, settings, warm_up=0)
        lines.append((readers, count, speed))
    return lines


@dataclasses.dataclass(frozen=True)
class Table:
    """What was measured on photographs of one size."""

    photographs: str
    name: str
    cells: Mapping[tuple[str, str], float]  # row, measure → value; nan: not installed

    def markdown(self) -> str:
        return tables.grid({key: _shown(key[1], value) for key, value in self.cells.items()})

    def lines(self) -> list[list[tables.Cell]]:
        """Lines of HEADER, without what is not installed."""
        return [[self.photographs, self.name, *key, value] for key, value in self.cells.items() if not np.isnan(value)]


def measured(count: int, repeats: int) -> Iterator[Table]:
    """Every table, as soon as it is measured, of `count` photographs of each size: whole batches."""
    for name, (height, width) in RECORDS.items():
        with prepared(height, width, count) as data:
            yield Table(name, "photograph", {("JPEG", "bytes"): float(np.mean([len(d) for d in data.encoded]))})

            seconds = stages(data, repeats)
            cells = {key: value for stage, values in seconds.items() for key, value in _cost(stage, values, count)}
            cells["whole", _SHARE] = _median_ratio(seconds["decode + resize"], seconds["whole"])
            yield Table(name, "stage, one core", cells)

            found = decoders(data.encoded, repeats)
            own, cells = found[0][1], {}
            for row, values, difference in found:
                if values is None:
                    cells[row, _SPEED] = np.nan
                    continue
                cells |= {**dict(_cost(row, values, count)), (row, _DIFFERENCE): difference}
                cells[row, _FASTER] = _median_ratio(values, own)
            yield Table(name, "decode and resize, one core", cells)

            if name == next(iter(RECORDS)):
                one, two, ratio = two_threads(data, repeats)
                yield Table(name, "threads", {("1", _SPEED): one, ("2", _SPEED): two, ("2", _SPEED_UP): ratio})
                cells = {}
                for readers, used, speed in delayed(data):
                    row = str(readers or "chosen")
                    cells |= {(row, _AT_ONCE): used, (row, _SPEED): speed}
                yield Table(name, f"data.readers, {1000 * LATENCY:.0f} ms a request", cells)


def _cost(row: str, seconds: Sequence[float], count: int) -> list[tuple[tuple[str, str], float]]:
    each = statistics.median(seconds) / count
    return [((row, _SPEED), 1 / max(each, 1e-9)), ((row, _COST), 1000 * each)]


def _median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))


def _shown(measure: str, value: float) -> str:
    return "not installed" if np.isnan(value) else f"{value:,.{_DECIMALS.get(measure, 0)}f}"


def main(_: list[str]) -> None:
    count, repeats = -(-flags.FLAGS.images // _BATCH) * _BATCH, flags.FLAGS.repeats
    cores, csv = os.cpu_count() or 1, command.place("csv", flags.FLAGS.csv)
    print(f"Python {platform.python_version()}, {cores} CPU cores, {count} photographs, {repeats} repeats\n")
    lines = [["", "setup", row, "count", n] for row, n in (("cores", cores), ("images", count), ("repeats", repeats))]
    for table in measured(count, repeats):
        print(f"{table.photographs}: {table.name}\n\n{table.markdown()}", flush=True)
        lines += table.lines()
    if csv:
        tables.write_csv(csv, HEADER, lines)


if __name__ == "__main__":
    flags.DEFINE_integer("images", 96, "Photographs of each size; rounded up to whole batches.", lower_bound=1)
    flags.DEFINE_integer("repeats", 9, "Repeats of each measurement.", lower_bound=1)
    flags.DEFINE_string("csv", None, "File for every number.")
    app.run(command.reported(main), flags_parser=command.parse_flags)
