"""Real pictures with captions, as ArrayRecord files: `python -m mdc_jax.data.prepare.pictures --out=DIR`.

Sources: `tuxpaint` (Tux Paint's stamps, fetched by the system's package manager, 161 MB). Train on the result with
--config.data.train=pictures:DIR:train. A second run goes on where the first one stopped.
"""

import contextlib
import pathlib
import sys
from collections.abc import Callable

from absl import app, flags

from mdc_jax.data.prepare import collection, records, tuxpaint
from mdc_jax.data.prepare.collection import Collection

SOURCES: dict[str, Callable[[str], contextlib.AbstractContextManager[Collection]]] = {
    "tuxpaint": tuxpaint.collect,
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
    flags.DEFINE_string("from", "", "A folder or .deb that you have, instead of fetching the source.")
    app.run(main)
