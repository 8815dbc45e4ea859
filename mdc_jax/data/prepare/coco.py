"""COCO's captions: `python -m mdc_jax.data.prepare.coco --from=IMAGES --annotations=captions_train2017.json --out=DIR`.

Every image keeps all its captions (five or so). COCO comes in splits: prepare each to its own folder.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from absl import flags

from mdc_jax.data.prepare import arguments, files
from mdc_jax.data.sources import folder


def read(annotations: pathlib.Path, root: pathlib.Path) -> tuple[list[files.Entry], int]:
    """The images that a file of annotations names, in order of their ids, and the number of captions of other images.

    Raises:
      ValueError: it is no file of COCO's, or names no images.
    """
    try:
        content = json.loads(annotations.read_bytes())
        images = {image["id"]: image for image in content["images"]}
        if len(images) < len(content["images"]):
            raise ValueError("several images have the same id")
        captions: dict[Any, list[str]] = {identity: [] for identity in images}
        others = 0
        for annotation in sorted(content["annotations"], key=lambda annotation: annotation["id"]):
            if not isinstance(annotation["caption"], str):
                raise TypeError(f"the caption of annotation {annotation['id']} is no text")
            of_image = captions.get(annotation["image_id"])
            if of_image is None:
                others += 1
            else:
                of_image.append(annotation["caption"])
        licences = {licence["id"]: licence.get("name", "") for licence in content.get("licenses") or ()}
        entries = [_entry(root, image, captions[identity], licences) for identity, image in sorted(images.items())]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{annotations} is no file of COCO captions ({error!r}): it needs images (id, file_name) and annotations "
            "(id, image_id, caption)"
        ) from error
    if not entries:
        raise ValueError(f"{annotations} names no images")
    if not any(entry.path.exists() for entry in entries):
        raise ValueError(f"none of the images is in {root}, as {entries[0].path}: give their folder as --from")
    return entries, others


def _entry(
    root: pathlib.Path, image: Mapping[str, Any], captions: list[str], licences: Mapping[Any, str]
) -> files.Entry:
    path = pathlib.PurePath(image["file_name"])
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{image['file_name']} lies outside of the folder of images")
    if not folder.can_be(path):
        raise ValueError(f"no file can be called {image['file_name']!r}, as image {image['id']} is")
    about = {"file": path.as_posix(), "id": image["id"], "licence": licences.get(image.get("license"), "")}
    return files.Entry(root / path, tuple(captions), {}, about)


def main(argv: list[str]) -> None:
    values = flags.FLAGS
    entries, others = read(pathlib.Path(values.annotations), arguments.folder())
    if others:
        print(f"{others} captions are of images that {values.annotations} does not list; they are left out")
    plans = files.plans(arguments.split(), entries, arguments.encoding())
    settings = {"captions_of_other_images": others}
    arguments.write(argv, f"coco {pathlib.Path(values.annotations).name}", plans, settings=settings)


if __name__ == "__main__":
    arguments.define("The folder of images.", "annotations CC-BY-4.0; images as stated by their owners")
    flags.DEFINE_string("annotations", None, "JSON file of captions.", required=True)
    arguments.define_split()
    arguments.run(main)
