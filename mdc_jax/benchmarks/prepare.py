"""Tars with known damage through the converter: `python -m mdc_jax.benchmarks.prepare --megabytes=1000`.

Writes tars by the webdataset library, one example in fifty damaged, one way after the other, and four small tars that
are damaged as a whole. Converts them by several processes; by one; and killed (SIGKILL) at random moments and started
again, until it is done. Prints memory and speed, and checks that every reason is counted as often as it was made,
that what was not damaged is there, and that all three give the same bytes. Needs requirements-dev.txt.
"""

import collections
import contextlib
import dataclasses
import hashlib
import io
import json
import pathlib
import random
import resource
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import PIL.Image
import pyarrow
import pyarrow.parquet
from absl import app, flags

from mdc_jax import command, files
from mdc_jax.data.prepare.manifest import Manifest
from mdc_jax.data.sources import open_source

_PICTURES = 40  # different ones; decoding each costs the same
_TARS = 10
_SMALL = 40  # examples of a tar that is damaged as a whole
_HUGE = 2**26 + 1  # bytes of an image that is too large
_FEW_HUGE = 3  # of these are made, since they are large


@dataclasses.dataclass
class Expected:
    """What the converter should find."""

    kept: dict[str, str] = dataclasses.field(default_factory=dict)  # caption → sha256 of the image
    dropped: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    bytes: int = 0


Sample = dict[str, bytes]


def _without(sample: Sample, extension: str) -> Sample:
    return {key: value for key, value in sample.items() if key != extension}


def _bomb(width: int, height: int) -> bytes:
    """A PNG of black pixels, as small as they can be packed."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes((width + 7) // 8 + 1) * height, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def _encoded(pixels: np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, kind, quality=90)
    return file.getvalue()


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _pictures() -> list[np.ndarray]:
    """u8[384, 512, 3] each: smooth shapes with noise on them, which take as many bytes as photographs do."""
    rng = np.random.default_rng(0)
    coarse = [PIL.Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)) for _ in range(_PICTURES)]
    smooth = [np.asarray(picture.resize((512, 384), PIL.Image.Resampling.BICUBIC)) for picture in coarse]
    return [np.clip(pixels + rng.normal(0, 9, pixels.shape), 0, 255).astype(np.uint8) for pixels in smooth]


def damages(pixels: np.ndarray) -> list[tuple[str, Callable[[Sample], Sample]]]:
    """Ways to damage an example, each with the reason that the converter should give."""
    png, webp, bomb = _encoded(pixels, "PNG"), _encoded(pixels, "WEBP"), _bomb(30_000, 30_000)
    return [
        ("damaged JPEG", lambda sample: sample | {"jpg": _half(sample["jpg"])}),
        ("damaged PNG", lambda sample: sample | {"jpg": _half(png)}),
        ("damaged header", lambda sample: sample | {"jpg": _half(webp)}),
        ("unknown format", lambda sample: sample | {"jpg": b"<html>404 Not Found</html>"}),
        ("unknown format", lambda sample: sample | {"jpg": bytes(10_000)}),
        ("no bytes", lambda sample: sample | {"jpg": b""}),
        ("too many pixels", lambda sample: sample | {"jpg": bomb}),
        ("empty caption", lambda sample: sample | {"txt": b""}),
        ("empty caption", lambda sample: sample | {"txt": b" \n\t"}),
        ("huge caption", lambda sample: sample | {"txt": b"word " * 10_000}),
        ("huge caption", lambda sample: sample | {"txt": b"word " * 100_000}),
        ("caption not UTF-8", lambda sample: sample | {"txt": b"caf\xe9 \xff"}),
        ("metadata no JSON", lambda sample: sample | {"json": sample["json"][:-3]}),
        ("metadata no JSON", lambda sample: sample | {"json": b"[" * 100_000}),
        ("no image member", lambda sample: _without(sample, "jpg")),
        ("no caption member", lambda sample: _without(sample, "txt")),
        ("member twice", lambda sample: sample | {"png": png}),
        ("member is a link or sparse", lambda sample: _without(sample, "jpg")),
    ]


def write_tars(root: pathlib.Path, megabytes: float, every: int) -> Expected:
    """Writes tars and the parquet files beside them, as img2dataset does; one example in `every` is damaged."""
    pictures, expected = _pictures(), Expected()
    jpegs = [_encoded(pixels, "JPEG") for pixels in pictures]
    ways = damages(pictures[0])
    per_tar = round(megabytes * 1e6 / _TARS / np.mean([len(data) for data in jpegs]))
    made = 0
    for number in range(_TARS):
        with _Tar(root, number) as tar:
            for index in range(per_tar):
                sample = _sample(number, index, jpegs[(number + index) % _PICTURES])
                if index % every == every // 2:
                    reason, damage = ways[made % len(ways)]
                    made += 1
                    tar.write(index, damage(sample))
                    if "link" in reason:
                        tar.link(index, "/etc/passwd")
                    expected.dropped[reason] += 1
                else:
                    tar.write(index, sample)
                    expected.kept[sample["txt"].decode()] = hashlib.sha256(sample["jpg"]).hexdigest()
            if number < _FEW_HUGE and megabytes >= 500:
                tar.write(per_tar, _sample(number, per_tar, bytes(_HUGE)))
                expected.dropped["huge image"] += 1
    for number, (reason, damage) in enumerate(_whole_tars().items(), _TARS):
        with _Tar(root, number) as tar:
            samples = [_sample(number, index, jpegs[index]) for index in range(_SMALL)]
            for index, sample in enumerate(samples):
                tar.write(index, sample)
        content = tar.path.read_bytes()
        cut = content.index(f"{_key(number, _SMALL // 2)}.jpg".encode())
        tar.path.write_bytes(damage(content, cut))
        whole = _SMALL // 2 - 1 if cut and reason != "no tar archive" else 0  # the last one may lack members
        for sample in samples[:whole]:
            expected.kept[sample["txt"].decode()] = hashlib.sha256(sample["jpg"]).hexdigest()
        expected.dropped[reason] += 1
        expected.dropped["in the parquet, not in the tar"] += _SMALL - whole
    expected.bytes = sum(path.stat().st_size for path in root.iterdir())
    return expected


def _whole_tars() -> dict[str, Callable[[bytes, int], bytes]]:
    """By reason: what is done to a tar's bytes, of which some member begins at `cut`."""

    def hostile(content: bytes, cut: int) -> bytes:
        header = tarfile.TarInfo("x")
        header.type, header.size = tarfile.XHDTYPE, 2**40
        return content[:cut] + header.tobuf() + content[cut:]

    return {
        "tar cut short": lambda content, cut: content[: cut + 700],
        "damaged tar": lambda content, cut: content[: cut + 150] + b"nonsense" + content[cut + 158 :],
        "tar header too large": hostile,
        "no tar archive": lambda content, _: b"<html>" + content[6:],
    }


def _key(number: int, index: int) -> str:
    return f"{number:05d}{index:05d}"


def _sample(number: int, index: int, image: bytes) -> Sample:
    key = _key(number, index)
    image = image[:2] + b"\xff\xfe\x00\x0c" + key.encode() + image[2:]  # a comment makes every file another one
    caption = f"picture {key}, seen from afar, Nº {index % 97}"
    about = {"key": key, "caption": caption, "url": f"https://example.org/{key}", "status": "success", "width": 512}
    return {"jpg": image, "txt": caption.encode(), "json": json.dumps(about).encode()}


class _Tar:
    """A tar by the webdataset library, and its parquet file."""

    def __init__(self, root: pathlib.Path, number: int) -> None:
        import webdataset

        self.path = root / f"{number:05d}.tar"
        self._number = number
        self._file = self.path.open("wb")
        self._writer = webdataset.TarWriter(self._file, encoder=False, mtime=0)
        self._keys: list[str] = []

    def write(self, index: int, sample: Mapping[str, bytes]) -> None:
        self._keys.append(_key(self._number, index))
        self._writer.write({"__key__": self._keys[-1], **sample})

    def link(self, index: int, target: str) -> None:
        member = tarfile.TarInfo(f"{_key(self._number, index)}.jpg")
        member.type, member.linkname = tarfile.SYMTYPE, target
        self._writer.tarstream.addfile(member)

    def __enter__(self) -> "_Tar":
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()
        self._file.close()
        table = pyarrow.table({"key": self._keys, "status": ["success"] * len(self._keys)})
        pyarrow.parquet.write_table(table, self.path.with_suffix(".parquet"))


class Run(NamedTuple):
    """A run of the converter."""

    ended: bool  # by itself
    peak: int  # bytes of memory of all its processes
    seconds: float
    cpu_seconds: float


def convert(tars: pathlib.Path, out: pathlib.Path, workers: int, kill_after: float | None = None) -> Run:
    """Runs the command, and kills it after so many seconds; raises RuntimeError where it fails."""
    import psutil

    command = [sys.executable, "-m", "mdc_jax.data.prepare.webdataset", f"--from={tars}", f"--out={out}"]
    command += [f"--workers={workers}", "--max_bad_share=0.6"]
    start, cpu, peak = time.monotonic(), _cpu_seconds(), 0
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        root = psutil.Process(process.pid)
        while process.poll() is None:
            if kill_after is not None and time.monotonic() - start > kill_after:
                process.kill()
            with contextlib.suppress(psutil.NoSuchProcess):
                peak = max(peak, sum(one.memory_info().rss for one in [root, *root.children(recursive=True)]))
            time.sleep(0.02)
        if process.returncode > 0:
            log.seek(0)
            raise RuntimeError(f"{' '.join(command)} failed:\n{log.read()[-3000:]}")
    return Run(process.returncode == 0, peak, time.monotonic() - start, _cpu_seconds() - cpu)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def content(directory: pathlib.Path) -> dict[str, str]:
    """Hashes of all files, by name."""
    found = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            found[path.name] = files.sha256(path)
    return found


def check(out: pathlib.Path, expected: Expected) -> None:
    """Raises AssertionError where the converter did not find what it should."""
    manifest = Manifest.read(out)
    assert manifest.all_dropped() == dict(sorted(expected.dropped.items())), (
        f"dropped {manifest.all_dropped()}, expected {dict(sorted(expected.dropped.items()))}"
    )
    source = open_source(f"array_record:{out}:train")
    kept = {}
    for index in range(len(source)):
        record = source[index]
        kept[record.captions[0]] = hashlib.sha256(record.image).hexdigest()
    assert len(kept) == len(source)
    assert kept == expected.kept, f"{len(kept)} examples kept, expected {len(expected.kept)}"


def measure(root: pathlib.Path, megabytes: float, workers: int, kills: int, seed: int, every: int) -> dict[str, float]:
    """All of the module's docstring; numbers by name. Raises AssertionError where something does not hold."""
    tars = root / "tars"
    tars.mkdir()
    expected = write_tars(tars, megabytes, every)
    run = convert(tars, root / "whole", workers)
    check(root / "whole", expected)
    whole = content(root / "whole")

    one = convert(tars, root / "one", 1)
    assert content(root / "one") == whole, "one process gave other bytes"
    convert(tars, root / "one", workers)
    assert content(root / "one") == whole, "repetition gave other bytes"

    rng, killed = random.Random(seed), 0
    while killed < kills:
        if convert(tars, root / "killed", workers, rng.uniform(0.3, run.seconds)).ended:
            shutil.rmtree(root / "killed")  # it was quicker: begin again
        else:
            killed += 1
    convert(tars, root / "killed", workers)
    assert content(root / "killed") == whole, "a killed and resumed run gave other bytes"
    return {
        "megabytes": expected.bytes / 1e6,
        "examples kept": len(expected.kept),
        "examples dropped": expected.dropped.total(),
        "reasons": len(expected.dropped),
        "times killed": killed,
        f"peak MiB, {workers} processes": run.peak / 2**20,
        "peak MiB, 1 process": one.peak / 2**20,
        f"seconds, {workers} processes": run.seconds,
        "seconds, 1 process": one.seconds,
        "CPU seconds, 1 process": one.cpu_seconds,
    }


def main(_: list[str]) -> None:
    values = flags.FLAGS
    with tempfile.TemporaryDirectory(dir=values.directory or None) as folder:
        for name, number in measure(
            pathlib.Path(folder), values.megabytes, values.workers, values.kills, values.seed, values.every
        ).items():
            print(f"{name:<28}{number:12,.1f}")


if __name__ == "__main__":
    flags.DEFINE_float("megabytes", 100, "Size of the tars.")
    flags.DEFINE_integer("every", 50, "One example in so many is damaged.")
    flags.DEFINE_integer("workers", 2, "Processes.")
    flags.DEFINE_integer("kills", 5, "Times the converter is killed.")
    flags.DEFINE_integer("seed", 0, "Of the moments at which it is killed.")
    flags.DEFINE_string("directory", "", "Where the tars are written; the system's temporary folder by default.")
    app.run(command.reported(main), flags_parser=command.parse_flags)
