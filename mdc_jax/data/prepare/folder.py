"""A folder of images with captions: `python -m mdc_jax.data.prepare.folder --from=photos --out=data/mine`.

`mdc_jax/data/sources/folder.py` says where captions may stand; with --columns=caption,alt a table's further columns are
kept apart by name. Images are split into train, validation and test so that equal captions are on one side; subfolders
become labels.
"""

import collections
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

from absl import flags

from mdc_jax.data.prepare import arguments, collection, files
from mdc_jax.data.prepare.collection import Picture
from mdc_jax.data.prepare.encode import Encoding
from mdc_jax.data.prepare.lengths import CAPTION
from mdc_jax.data.sources import folder
from mdc_jax.data.sources.base import Family
from mdc_jax.data.texts import has_words, readable, words

_SUFFIXES = folder.SUFFIXES | {".svg"}


@dataclasses.dataclass(frozen=True)
class Folder:
    """What a folder holds, and the images that were left out, by reason."""

    splits: Mapping[str, Sequence[files.Entry]]
    families: Mapping[str, Family]
    dropped: Mapping[str, Sequence[str]]

    def plans(self, encoding: Encoding) -> list[files.FilesPlan]:
        return [plan for split, entries in self.splits.items() for plan in files.plans(split, entries, encoding)]


def read(root: pathlib.Path, columns: Sequence[str] = (CAPTION,)) -> Folder:
    """Lists a folder; raises FileNotFoundError where no image has a caption, ValueError for a bad table of captions."""
    paths = folder.image_files(root, _SUFFIXES)
    texts = {column: folder.read_captions(root, paths, column, _SUFFIXES) for column in columns}
    pictures, dropped = [], collections.defaultdict(list)
    missing = [readable(path.as_posix()) for path in sorted(texts[columns[0]].keys() - set(paths))]
    if missing:
        dropped["no image file"] = missing
    for path in paths:
        captions, name = texts[columns[0]][path], readable(path.as_posix())
        worded = tuple(filter(has_words, captions or ()))
        if worded:
            # Not of further columns, where one word for all images would put all of them on one side.
            concepts = tuple(("title", words(text)) for text in worded)
            labels = {collection.FOLDER: collection.top_folder(pathlib.PurePosixPath(name))}
            pictures.append(Picture(root / path, name, worded, concepts, labels))
        else:
            reason = "captions not UTF-8" if captions is None else "empty caption" if captions else "no caption"
            dropped[reason].append(name)
    if not pictures:
        why = ", ".join(f"{len(names)} x {reason}, as {names[0]}" for reason, names in dropped.items())
        slash = ": a table names files with /" if any("\\" in name for name in missing) else ""
        raise FileNotFoundError(
            f"{root} has no images with captions ({why or 'it has no image'}{slash}); see mdc_jax/data/README.md for "
            "where captions go"
        )

    families = collection.families(pictures)

    def entry(picture: Picture) -> files.Entry:
        labels = {name: collection.label(picture, name, family.names) for name, family in families.items()}
        path = picture.path.relative_to(root)
        several = {column: texts[column][path] or () for column in columns} if len(columns) > 1 else {}
        return files.Entry(picture.path, picture.captions, labels, {"file": picture.name}, several)

    splits = {
        split: [entry(picture) for picture in chosen] for split, chosen in collection.split_by_concept(pictures).items()
    }
    return Folder(splits, families, dropped)


def main(argv: list[str]) -> None:
    root, columns = arguments.folder(), arguments.columns()
    found = read(root, columns)
    if not found.families:
        print(f"no labels: these are top folders of {collection.MIN_IN_FOLDER} images and more, where there are two")
    arguments.write(
        argv,
        f"folder {root.resolve().name}",
        found.plans(arguments.encoding()),
        columns=columns,
        families=found.families,
        dropped=found.dropped,
        numbered=True,
    )


if __name__ == "__main__":
    arguments.define("The folder.", "as stated by the owner of the folder")
    flags.DEFINE_list("columns", [CAPTION], "Columns of text in the table of captions; the first is the default one.")
    arguments.run(main)
