"""Features of a folder of images: `python -m mdc_jax.extract --workdir=RUN --images=DIR --out=features.npz`.

OUT has `names`, the paths of the images below DIR in order, `features` with a row for each, `skipped`, the paths of
files that are no images, `step`, `kind` and `layer`, of which these are, and `made_of`, all that they follow from as
JSON. Stopped at any moment, the same command goes on: what is done lies in OUT.parts until OUT is whole; then it finds
OUT, and nothing to do.
"""

import dataclasses
import hashlib
import itertools
import pathlib
from collections.abc import Sequence

import numpy as np
from absl import app, flags

from mdc_jax import command, features, progress
from mdc_jax.config import ConfigError
from mdc_jax.data.images import BadImage
from mdc_jax.data.sources.folder import image_files
from mdc_jax.exchange import trees
from mdc_jax.feature_file import Parts

BATCHES = 8  # of a part, which is what a kill can cost


def extract(
    encoder: features.Encoder, root: pathlib.Path, out: pathlib.Path, kind: str = "pooled", layer: int = -1
) -> tuple[int, int]:
    """Writes features of all images below `root`, or what earlier calls have left to do, if anything; see the module.

    Names bad files, and folders that cannot be read, on stderr. Returns how many images have features, and how many
    files were skipped.
    Raises ConfigError where there is no image, and as `Encoder` and `Parts` do.
    """
    files = image_files(root, on_error=lambda error: command.skipped(error.filename, error.strerror))
    if not files:
        raise ConfigError(f"--images={root}: there is no image in this folder")
    rows = encoder.rows(len(files))
    layer = encoder.layer(layer)
    about = {"step": encoder.loaded.step, "kind": kind, "layer": layer}
    parts = Parts(out, {"images": _hash_of_files(root, files), "encoder": _hash_of(encoder), **about}, rows)
    if parts.finished is not None:
        return parts.finished
    first = parts.done * BATCHES * rows
    shown = progress.bar(str(root), len(files), done=first, unit=" images")
    skipped: set[int] = set()

    def skip(index: int, error: BaseException) -> None:
        if not isinstance(error, OSError | BadImage):
            raise error
        skipped.add(first + index)
        shown.clear()
        command.skipped(root / files[first + index], error)

    found = encoder.stream([root / file for file in files[first:]], kind, layer, rows=rows, on_fault=skip)
    with shown:
        for start in range(first, len(files), BATCHES * rows):
            batches = list(itertools.islice(found, BATCHES))
            part = range(start, min(start + BATCHES * rows, len(files)))
            names = [[files[i].as_posix() for i in part if (i in skipped) == bad] for bad in (False, True)]
            parts.add(names[0], np.concatenate(batches), names[1])
            shown.update(len(part))
    return parts.finish(**about)


def _hash_of_files(root: pathlib.Path, files: Sequence[pathlib.Path]) -> str:
    """Of names, sizes and times of change, as a link to nowhere has none of these."""
    stats = ((root / file).stat() if (root / file).exists() else None for file in files)
    seen = [(stat.st_size, stat.st_mtime_ns) if stat else None for stat in stats]
    return _sha256(repr([(file.as_posix(), *(about or ())) for file, about in zip(files, seen, strict=True)]))


def _hash_of(encoder: features.Encoder) -> str:
    """Of parameters and preprocessing: a run may be trained anew and have the same steps."""
    weights = trees.sha256(trees.on_host(encoder.loaded.params["encoder"]))
    return _sha256(repr((dataclasses.asdict(encoder.loaded.config.image), weights)))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def main(_: list[str]) -> None:
    options = flags.FLAGS
    root, out = pathlib.Path(options.images), pathlib.Path(options.out)
    if not root.is_dir():
        raise ConfigError(f"--images={root}: there is no such folder")
    there = " (it was there already)" if out.exists() else ""
    encoder = features.load(options.workdir, step=options.step, batch_size=options.batch_size)
    images, skipped = extract(encoder, root, out, options.features, options.layer)
    print(f"{out}: features of {images:,} images; {skipped:,} files skipped{there}")


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "The run whose checkpoint encodes.", required=True)
    flags.DEFINE_string("images", None, "Folder of images; those in its subfolders count too.", required=True)
    flags.DEFINE_string("out", None, "The file to write.", required=True)
    flags.DEFINE_integer("step", None, "Step of the checkpoint; the latest if not given.")
    flags.DEFINE_enum("features", "pooled", features.KINDS, "One vector for an image, or one for each of its tokens.")
    flags.DEFINE_integer("layer", -1, "0: what enters the first block, i: what leaves the i-th; -1: the last.")
    flags.DEFINE_integer("batch_size", 32, "Images that are encoded at once.", lower_bound=1)
    app.run(command.reported(main), flags_parser=command.parse_flags)
