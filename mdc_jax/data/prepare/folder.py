"""A folder of images with captions: `python -m mdc_jax.data.prepare.folder --from=photos --out=data/mine`.

`mdc_jax/data/sources/folder.py` says where captions may stand; with --columns=caption,alt a table's further columns are
kept apart by name. Images are split into train, validation and test so that equal captions are on one side, but for
captions that many images have, as "a photo of a cat"; subfolders become labels.
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
# A caption that more images than either have says little of which image it is: it keeps none together.
_COMMON_SHARE, _COMMON = 0.05, 10
_TABLES = frozenset((".csv", ".json", ".jsonl", ".parquet", ".tsv"))


@dataclasses.dataclass(frozen=True)
class Folder:
    """What a folder holds, and the images that were left out, by reason."""

    splits: Mapping[str, Sequence[files.Entry]]
    families: Mapping[str, Family]
    dropped: Mapping[str, Sequence[str]]
    common: Sequence[str]  # captions in lower case that so many images have that they hold none together

    def plans(self, encoding: Encoding) -> list[files.FilesPlan]:
        return [plan for split, entries in self.splits.items() for plan in files.plans(split, entries, encoding)]


def read(root: pathlib.Path, columns: Sequence[str] = (CAPTION,)) -> Folder:
    """Lists a folder.

    Raises:
      FileNotFoundError: no image has a caption.
      ValueError: a table of captions is malformed, or no image came to the training split.
    """
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
            # Not of further columns, which say less of what an image shows.
            concepts = tuple(("title", words(text)) for text in worded)
            labels = {collection.FOLDER: collection.top_folder(pathlib.PurePosixPath(name))}
            pictures.append(Picture(root / path, name, worded, concepts, labels))
        else:
            reason = "captions not UTF-8" if captions is None else "empty caption" if captions else "no caption"
            dropped[reason].append(name)
    if not pictures:
        why = ", ".join(f"{len(names)} x {reason}, as {names[0]}" for reason, names in dropped.items())
        slash = ": a table names files with /" if any("\\" in name for name in missing) else ""
        tables = sorted(path.name for path in root.iterdir() if path.suffix.lower() in _TABLES)
        unread = [name for name in tables if name not in folder.TABLES]
        named = f"; it has {', '.join(unread[:3])}, and {', '.join(folder.TABLES)} are read" if unread else ""
        raise FileNotFoundError(
            f"{root} has no images with captions ({why or 'it has no image'}{slash}){named}; see "
            "mdc_jax/data/README.md for where captions go"
        )

    families = collection.families(pictures)
    pictures, common = _apart(pictures)

    def entry(picture: Picture) -> files.Entry:
        labels = {name: collection.label(picture, name, family.names) for name, family in families.items()}
        path = picture.path.relative_to(root)
        several = {column: texts[column][path] or () for column in columns} if len(columns) > 1 else {}
        return files.Entry(picture.path, picture.captions, labels, {"file": picture.name}, several)

    splits = {
        split: [entry(picture) for picture in chosen] for split, chosen in collection.split_by_concept(pictures).items()
    }
    if not splits["train"]:
        raise ValueError(
            f"{root}: of its {len(pictures)} image(s) none came to the training split, as there are few, or few "
            f"captions differ: add images, or read the folder as it is, folder:{root}"
        )
    return Folder(splits, families, dropped, common)


def _apart(pictures: Sequence[Picture]) -> tuple[list[Picture], list[str]]:
    """The pictures without the concepts that too many share, each of which has one still, and the texts of these."""
    counts = collections.Counter(concept for picture in pictures for concept in set(picture.concepts))
    most = max(_COMMON, _COMMON_SHARE * len(pictures))
    common = {concept for concept, count in counts.items() if count > most}
    own = (tuple(concept for concept in picture.concepts if concept not in common) for picture in pictures)
    apart = [
        dataclasses.replace(picture, concepts=concepts or (("file", picture.name),))
        for picture, concepts in zip(pictures, own, strict=True)
    ]
    return apart, sorted(text for _, text in common)


def main(argv: list[str]) -> None:
    root, columns = arguments.folder(), arguments.columns()
    found = read(root, columns)
    if not found.families:
        print(f"no labels: these are top folders of {collection.MIN_IN_FOLDER} images and more, where there are two")
    if found.common:
        print(
            f"{len(found.common)} caption(s) that more than ten images, and more than one in twenty, have may stand in "
            f"several splits, as {found.common[0]!r}"
        )
    for split in (split for split, entries in found.splits.items() if not entries):
        print(f"no image came to {split}: few images, or few captions differ; divide train by subset:0%-80%: instead")
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
