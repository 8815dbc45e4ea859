"""Real pictures with captions, as ArrayRecord files: `python -m mdc_jax.data.prepare.pictures --out=DIR`.

Sources: `tuxpaint` (Tux Paint's stamps, fetched by the system's package manager, 161 MB) and `folder` (any folder of
images with captions, see `mdc_jax/data/sources/folder.py`; name it with --from). Train on the result with
--config.data.train=pictures:DIR:train. A second run goes on where the first one stopped.
"""

import collections
import contextlib
import pathlib
import sys
from collections.abc import Callable, Iterator

from absl import app, flags

from mdc_jax.data.prepare import collection, records, tuxpaint
from mdc_jax.data.prepare.collection import Collection, Picture, words
from mdc_jax.data.sources import folder


@contextlib.contextmanager
def _collect_folder(given: str) -> Iterator[Collection]:
    if not pathlib.Path(given).is_dir() or not given:
        raise FileNotFoundError(f"--source=folder needs --from=FOLDER with images and captions, got {given!r}")
    root = pathlib.Path(given)
    files = folder.image_files(root, folder.SUFFIXES | {".svg"})
    pictures, dropped = [], collections.Counter()
    for file, captions in folder.read_captions(root, files).items():
        captions = None if captions is None else tuple(text for text in captions if words(text))
        if captions:
            concepts = tuple(("title", words(text)) for text in captions)
            pictures.append(Picture(root / file, file.as_posix(), captions, concepts))
        else:
            dropped["no caption" if captions is not None else "captions not UTF-8"] += 1
    if not pictures:
        raise FileNotFoundError(f"{given} has no images with captions; see mdc_jax/data/README.md for where they go")
    yield Collection(f"folder {root.name}", "as stated by the owner of the folder", "", pictures, dict(dropped))


SOURCES: dict[str, Callable[[str], contextlib.AbstractContextManager[Collection]]] = {
    "tuxpaint": tuxpaint.collect,
    "folder": _collect_folder,
}


def prepare(out: pathlib.Path, source: str = "tuxpaint", given: str = "") -> records.Manifest:
    """Writes the shards and the manifest of a source to `out`; the same input gives the same bytes.

    Raises:
      FileNotFoundError: the source cannot be had; says what to do.
    """
    with SOURCES[source](given) as found:
        labels = collection.families(found.pictures)
        manifest = records.Manifest(
            source=found.source,
            licence=found.licence,
            attribution=found.attribution,
            families=labels,
            settings=collection.SETTINGS,
            dropped=dict(found.dropped),
        )
        plans = collection.shards(collection.split_by_concept(found.pictures), labels)
        return records.write_all(out, manifest, plans)


def main(_: list[str]) -> None:
    out = pathlib.Path(flags.FLAGS.out)
    try:
        manifest = prepare(out, flags.FLAGS.source, flags.FLAGS["from"].value)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(f"\n{out}: {manifest.source}, {manifest.licence}")
    for split, count in manifest.counts().items():
        print(f"  {split:<12}{count:>8}    pictures:{out}:{split}")
    for reason, count in manifest.all_dropped().items():
        print(f"  left out    {count:>8}    {reason}")


if __name__ == "__main__":
    flags.DEFINE_string("out", None, "Folder to write to.", required=True)
    flags.DEFINE_enum("source", "tuxpaint", list(SOURCES), "Where the pictures come from.")
    flags.DEFINE_string("from", "", "A folder (or .deb for tuxpaint) that you have, instead of fetching the source.")
    app.run(main)
