"""Cut-outs for collages: pictures with transparency and a short title, cropped to what is shown.

Written beside the pictures, as records of the same splits whose image is a WebP with alpha, whose only caption is the
title as collages write it, and whose label is the kind of thing.
"""

import collections
import dataclasses
import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import PIL.Image

from mdc_jax.data import images
from mdc_jax.data.collage.grammar import as_title
from mdc_jax.data.collage.layout import FAMILY, TITLE_LENGTHS
from mdc_jax.data.prepare import collection, svg
from mdc_jax.data.prepare.collection import Picture
from mdc_jax.data.prepare.example import Example
from mdc_jax.data.sources.base import BadRecord

SETTINGS = {"long_side": 128, "format": "WEBP", "quality": 90}
MIN_TITLES = 3  # of each length in every split that make a kind one of collages

_OPAQUE_KINDS = frozenset(("flags",))  # rectangles by nature; of other pictures, a rectangle is a background
_VISIBLE = 16  # alpha of 255
_MIN_TRANSPARENT = 0.03  # share of the picture
_MIN_FILLED = 0.3  # share of its box
_MAX_ASPECT = 2.5
_MIN_SIDE = 32  # pixels


class Choice(NamedTuple):
    """The pictures for collages by split, with their title and kind in place of captions and labels."""

    splits: dict[str, list[Picture]]
    kinds: tuple[str, ...]
    dropped: dict[str, int]  # how many others there were, by reason


def choose(splits: Mapping[str, Sequence[Picture]]) -> Choice:
    """The pictures with a short title and a kind.

    A kind is kept if all splits that are trained or chosen on have MIN_TITLES titles of each length in
    it: then the length of a title can be drawn before its kind and tells nothing of it.
    """
    usable: dict[str, list[Picture]] = {}
    dropped: collections.Counter[str] = collections.Counter()
    titles: dict[tuple[str, int, str], set[str]] = collections.defaultdict(set)
    for split, pictures in splits.items():
        for picture in pictures:
            title = as_title(picture.title)
            if not picture.kind:
                dropped["no kind"] += 1
            elif not title:
                dropped["no title of one or two plain words"] += 1
            else:
                cut = dataclasses.replace(picture, captions=(title,), labels={FAMILY: picture.kind}, title=title)
                usable.setdefault(split, []).append(cut)
                titles[picture.kind, len(title.split()), split].add(title)
    kinds = tuple(
        kind
        for kind in sorted({kind for kind, _, _ in titles})
        if all(len(titles[kind, n, split]) >= MIN_TITLES for n in TITLE_LENGTHS for split in collection.SHARES)
    )
    chosen = {}
    for split, found in usable.items():
        kept = [picture for picture in found if picture.kind in kinds]
        if len(kept) < len(found):
            dropped["kind with too few titles"] += len(found) - len(kept)
        if kept:
            chosen[split] = kept
    return Choice(chosen, kinds, dict(dropped))


@dataclasses.dataclass(frozen=True)
class CutOut:
    """Makes the example of a picture; what cannot be cut out is a BadRecord."""

    kinds: Sequence[str]

    def __call__(self, picture: Picture) -> Example | BadRecord:
        try:
            image = cut_out(picture.path, picture.kind in _OPAQUE_KINDS)
        except BadRecord as fault:
            return fault
        labels: Mapping[str, Any] = {FAMILY: self.kinds.index(picture.kind)}
        return Example(image, picture.captions, labels, {"file": picture.name})


def cut_out(path: pathlib.Path, may_be_opaque: bool = False) -> bytes:
    """A picture file as WebP with alpha, cropped to what is visible; raises BadRecord where that is no cut-out."""
    long = SETTINGS["long_side"]
    pixels = images.decode_rgba(svg.picture(path, long))
    alpha = pixels[..., 3]
    visible = np.argwhere(alpha >= _VISIBLE)
    if not len(visible):
        raise BadRecord("nothing is visible")
    if (alpha < _VISIBLE).mean() < _MIN_TRANSPARENT and not may_be_opaque:
        raise BadRecord("no transparency")
    (top, left), (bottom, right) = visible.min(0).tolist(), (visible.max(0) + 1).tolist()
    height, width = bottom - top, right - left
    if max(height, width) > _MAX_ASPECT * min(height, width):
        raise BadRecord("too long and thin")
    if min(height, width) < _MIN_SIDE:
        raise BadRecord("too small")
    if (alpha[top:bottom, left:right] >= _VISIBLE).mean() < _MIN_FILLED:
        raise BadRecord("fills too little of its box")
    picture = PIL.Image.fromarray(np.ascontiguousarray(pixels[top:bottom, left:right]))
    picture.thumbnail((long, long), PIL.Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, SETTINGS["format"], quality=SETTINGS["quality"], method=4)
    return file.getvalue()
