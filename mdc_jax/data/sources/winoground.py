"""Winoground (arXiv 2204.03162), "winoground:DIR": pairs of images and of captions that are of the same words.

DIR holds examples.jsonl, an object a line with image_0, image_1, caption_0 and caption_1, and images/IMAGE.png, as
facebook/winoground has them.
"""

import pathlib

from mdc_jax.data.sources.foil_set import Case, FoilSet
from mdc_jax.data.sources.published import file_in, malformed, read_json

KIND = "winoground"
_FIELDS = "image_0, image_1, caption_0, caption_1"


def open(rest: str) -> FoilSet:
    """Opens "DIR"; raises FileNotFoundError where a file is not there, ValueError for one that is not like this."""
    root = pathlib.Path(rest)
    path = root / "examples.jsonl"
    content = read_json(path, _FIELDS)
    try:
        cases = [
            Case(
                tuple(file_in(root / "images", f"{entry[f'image_{side}']}.png") for side in (0, 1)),
                (entry["caption_0"], entry["caption_1"]),
            )
            for entry in content
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise malformed(path, _FIELDS, error) from error
    return FoilSet(f"winoground:{rest}", {KIND: cases})
