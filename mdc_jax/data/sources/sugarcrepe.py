"""SugarCrepe (arXiv 2306.14610), "sugarcrepe:DIR" or "sugarcrepe:DIR,images=COCO/val2017".

DIR holds the JSON files of RAIVNLab/sugar-crepe, add_att.json to swap_obj.json, whichever are there, each
{"0": {"filename": ..., "caption": ..., "negative_caption": ...}, ...}. The images are those of COCO's val2017, in
DIR/images unless told otherwise.
"""

import pathlib

from mdc_jax.data.sources import options
from mdc_jax.data.sources.foil_set import Case, FoilSet
from mdc_jax.data.sources.published import file_in, malformed, read_json

KINDS = ("add_att", "add_obj", "replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj")
_FIELDS = "{id: {filename, caption, negative_caption}}"


def open(rest: str) -> FoilSet:
    """Opens "DIR[,images=DIR]".

    Raises:
      FileNotFoundError: none of the files is in DIR, or an image is not there.
      ValueError: a file or an option is not like this.
    """
    directory, *items = rest.split(",")
    root = pathlib.Path(directory)
    pictures = options.read("sugarcrepe", items, {"images": pathlib.Path}).get("images", root / "images")
    paths = {kind: root / f"{kind}.json" for kind in KINDS if (root / f"{kind}.json").exists()}
    if not paths:
        raise FileNotFoundError(f"{root} holds none of the files of SugarCrepe, {KINDS[0]}.json to {KINDS[-1]}.json")
    return FoilSet(f"sugarcrepe:{rest}", {kind: _cases(path, pictures) for kind, path in paths.items()})


def _cases(path: pathlib.Path, pictures: pathlib.Path) -> list[Case]:
    content = read_json(path, _FIELDS)
    try:
        return [
            Case((file_in(pictures, entry["filename"]),), (entry["caption"], entry["negative_caption"]))
            for entry in content.values()
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise malformed(path, _FIELDS, error) from error
