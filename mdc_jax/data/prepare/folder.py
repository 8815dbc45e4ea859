"""A folder of images with captions: `python -m mdc_jax.data.prepare.folder --from=photos --out=data/mine`.

`mdc_jax/data/sources/folder.py` says where captions may stand; with --columns=caption,alt a table's further columns are
kept apart by name. Images are split into train, validation and test so that equal captions are on one side; subfolders
become labels.
"""

import collections
import pathlib

from absl import flags

from mdc_jax.data.prepare import arguments, collection, files
from mdc_jax.data.prepare.collection import Picture, words
from mdc_jax.data.prepare.lengths import CAPTION
from mdc_jax.data.sources import folder


def main(argv: list[str]) -> None:
    (given,), columns = flags.FLAGS["from"].value, tuple(flags.FLAGS.columns)
    root = pathlib.Path(given)
    if not root.is_dir():
        raise FileNotFoundError(f"--from={given}: there is no such folder")
    images = folder.image_files(root, folder.SUFFIXES | {".svg"})
    texts = {column: folder.read_captions(root, images, column) for column in columns}
    pictures, dropped = [], collections.Counter()
    for file in images:
        captions = texts[columns[0]][file]
        worded = tuple(text for text in captions or () if words(text))
        if worded:
            concepts = tuple(("title", words(text)) for text in worded)
            pictures.append(Picture(root / file, file.as_posix(), worded, concepts))
        else:
            dropped["captions not UTF-8" if captions is None else "empty caption" if captions else "no caption"] += 1
    if not pictures:
        raise FileNotFoundError(f"{root} has no images with captions; see mdc_jax/data/README.md for where they go")

    families = collection.families(pictures)

    def entry(picture: Picture) -> files.Entry:
        labels = {
            name: family.names.index(picture.folder) if picture.folder in family.names else -1
            for name, family in families.items()
        }
        file = picture.path.relative_to(root)
        several = {column: texts[column][file] or () for column in columns} if len(columns) > 1 else {}
        return files.Entry(picture.path, picture.captions, labels, {"file": picture.name}, several)

    splits = collection.split_by_concept(pictures)
    plans = [
        plan
        for split, chosen in splits.items()
        for plan in files.plans(split, [entry(picture) for picture in chosen], arguments.encoding())
    ]
    arguments.write(argv, f"folder {root.name}", plans, columns=columns, families=families, dropped=dict(dropped))


if __name__ == "__main__":
    arguments.define("The folder.", "as stated by the owner of the folder")
    flags.DEFINE_list("columns", [CAPTION], "Columns of text in the table of captions; the first is the default one.")
    arguments.run(main)
