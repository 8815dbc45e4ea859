"""ARO (arXiv 2210.01936), "aro:DIR", of which DIR holds one or more, as the authors publish them:

| kind | files |
|---|---|
| `relation` | visual_genome_relation.json, images/ |
| `attribution` | visual_genome_attribution.json, images/ |
| `coco_order` | coco_karpathy_test.json, val2014/; coco_karpathy_test.tags.json |
| `flickr_order` | flickr30k_test.json, flickr30k-images/; flickr30k_test.tags.json |

Images of the first two are cut to the box of the case. As with the authors, relations whose two directions they hold to
be alike are left out, and pairs of attributes with fewer than 25 cases; the rest are groups, whose mean is reported.

The foils of the Order sets are made here, see `word_order.py`. Two of the four need the kinds of words: NAME.tags.json
has, for each image of NAME.json and each of its captions, a list of Penn Treebank tags, one for each word of
`word_order.words`. Without it the kinds are `coco_trigrams` and `flickr_trigrams`, of two foils, which papers do not
report. Captions whose words have one order only are left out.
"""

import collections
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from absl import logging

from mdc_jax.data import word_order
from mdc_jax.data.sources import karpathy
from mdc_jax.data.sources.foil_set import Box, Case, FoilSet
from mdc_jax.data.sources.published import file_in, malformed, read_json

_LEAST_CASES = 25  # of a pair of attributes
_BOXED = "image_path, true_caption, false_caption, bbox_x, bbox_y, bbox_w, bbox_h, and relation_name or attributes"
_TAGS = "a list of tags for each word of each caption"

# As the authors' notebook lists them: what holds in both directions, or too seldom to be counted.
SYMMETRIC = frozenset(
    (
        *("adjusting", "attached to", "between", "bigger than", "biting", "boarding", "brushing", "chewing"),
        *("cleaning", "climbing", "close to", "coming from", "coming out of", "contain", "crossing", "dragging"),
        *("draped over", "drinking", "drinking from", "driving", "driving down", "driving on", "eating from"),
        *("eating in", "enclosing", "exiting", "facing", "filled with", "floating in", "floating on", "flying"),
        *("flying above", "flying in", "flying over", "flying through", "full of", "going down", "going into"),
        *("going through", "grazing in", "growing in", "growing on", "guiding", "hanging from", "hanging in"),
        *("hanging off", "hanging over", "higher than", "holding onto", "hugging", "in between", "jumping off"),
        *("jumping on", "jumping over", "kept in", "larger than", "leading", "leaning over", "leaving", "licking"),
        *("longer than", "looking in", "looking into", "looking out", "looking over", "looking through"),
        *("lying next to", "lying on top of", "making", "mixed with", "mounted on", "moving", "on the back of"),
        *("on the edge of", "on the front of", "on the other side of", "opening", "painted on", "parked at"),
        *("parked beside", "parked by", "parked in", "parked in front of", "parked near", "parked next to"),
        *("perched on", "petting", "piled on", "playing", "playing in", "playing on", "playing with", "pouring"),
        *("reaching for", "reading", "reflected on", "riding on", "running in", "running on", "running through"),
        *("seen through", "sitting behind", "sitting beside", "sitting by", "sitting in front of", "sitting near"),
        *("sitting next to", "sitting under", "skiing down", "skiing on", "sleeping in", "sleeping on"),
        *("smiling at", "sniffing", "splashing", "sprinkled on", "stacked on", "standing against"),
        *("standing around", "standing behind", "standing beside", "standing in front of", "standing near"),
        *("standing next to", "staring at", "stuck in", "surrounding", "swimming in", "swinging", "talking to"),
        *("topped with", "touching", "traveling down", "traveling on", "tying", "typing on", "underneath"),
        *("wading in", "waiting for", "walking across", "walking by", "walking down", "walking next to"),
        *("walking through", "working in", "working on", "worn on", "wrapped around", "wrapped in", "by", "of"),
        *("near", "next to", "with", "beside", "on the side of", "around"),
    )
)


def open(rest: str) -> FoilSet:
    """Opens "DIR".

    Raises:
      FileNotFoundError: none of the files is in DIR, or an image is not there.
      ValueError: a file is not like this.
    """
    root = pathlib.Path(rest)
    cases = {}
    for kind, (name, read) in _BOXED_KINDS.items():
        if (root / name).exists():
            cases[kind] = read(_boxed(root / name, root / "images"))
    for kind, name in _ORDER_KINDS.items():
        if (root / name).exists():
            tagged = (root / name).with_suffix(".tags.json")
            kind = f"{kind}_order" if tagged.exists() else f"{kind}_trigrams"
            cases[kind] = _reordered(root / name, tagged if tagged.exists() else None)
    if not cases:
        names = [name for name, _ in _BOXED_KINDS.values()] + list(_ORDER_KINDS.values())
        raise FileNotFoundError(f"{root} holds none of the files of ARO: {', '.join(names)}")
    return FoilSet(f"aro:{rest}", cases)


def _boxed(path: pathlib.Path, pictures: pathlib.Path) -> list[Case]:
    try:
        return [
            Case(
                (file_in(pictures, entry["image_path"]),),
                (entry["true_caption"], entry["false_caption"]),
                Box(*(int(entry[f"bbox_{side}"]) for side in "xywh")),
                _group(entry),
            )
            for entry in read_json(path, _BOXED)
        ]
    except (KeyError, TypeError, IndexError, ValueError, OverflowError) as error:
        raise malformed(path, _BOXED, error) from error


def _group(entry: Mapping[str, Any]) -> str:
    return "_".join([entry["relation_name"]] if "relation_name" in entry else entry["attributes"][:2])


def _directed(cases: list[Case]) -> list[Case]:
    return [case for case in cases if case.group not in SYMMETRIC]


def _frequent(cases: list[Case]) -> list[Case]:
    count = collections.Counter(case.group for case in cases)
    return [case for case in cases if count[case.group] >= _LEAST_CASES]


_BOXED_KINDS: Mapping[str, tuple[str, Callable[[list[Case]], list[Case]]]] = {
    "relation": ("visual_genome_relation.json", _directed),
    "attribution": ("visual_genome_attribution.json", _frequent),
}
_ORDER_KINDS = {"coco": "coco_karpathy_test.json", "flickr": "flickr30k_test.json"}


def _reordered(path: pathlib.Path, tagged: pathlib.Path | None) -> list[Case]:
    """Every caption with its foils; the images stand below the folder of the file."""
    captions = [
        (entry.file, word_order.words(text)) for entry in karpathy.read(path, path.parent) for text in entry.captions
    ]
    tags: list[Any] = [None] * len(captions)
    if tagged is not None:
        try:
            tags = [["".join(tag) for tag in some] for of_image in read_json(tagged, _TAGS) for some in of_image]
        except TypeError as error:
            raise malformed(tagged, _TAGS, error) from error
        if len(tags) != len(captions):
            raise ValueError(f"{tagged} has the tags of {len(tags)} captions; {path} has {len(captions)}")
    cases = []
    for (file, caption), some in zip(captions, tags, strict=True):
        foils = word_order.foils(caption, some)
        if foils is not None:
            cases.append(Case((file,), (" ".join(caption), *foils)))
    if len(cases) < len(captions):
        logging.info("aro: %d of %d captions have one order only", len(captions) - len(cases), len(captions))
    return cases
