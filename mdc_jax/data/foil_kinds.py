"""Foils of images whose captions can be parsed: what scenes and collages share.

Each kind draws an image and a true caption until the caption makes the claim that the kind is about. Replacing and
swapping give a second image and the caption that says of it what the first one says of the first image; adding gives a
longer caption, which is false. README.md of `scenes` is the definition.
"""

import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mdc_jax.data.draws import below
from mdc_jax.data.foils import Drawn, Foils
from mdc_jax.data.scenes.layout import draw_centres, jittered, relation
from mdc_jax.data.scenes.telling import Telling

PAIRS = ("replace_object", "replace_attribute", "replace_relation", "swap_object", "swap_attribute")
ADDED = ("add_object", "add_attribute")
KINDS = PAIRS + ADDED

_ATTEMPTS = 20_000
_MOVES = 30  # of the objects of one image

# Makes a foil of an image and a caption of it, or None where they do not suit.
Maker = Callable[[Foils, random.Random, Any, Telling], Drawn | None]


def draw(kind: str, rng: random.Random, foils: Foils, others: Mapping[str, Maker] | None = None) -> Drawn:
    """A random foil.

    Args:
      kind: one of KINDS, or of `others`.
      rng: decides everything.
      foils: of which images.
      others: makers of further kinds.

    Raises:
      ValueError: none is found in a large number of attempts.
    """
    make = (_MAKERS | (others or {}))[kind]
    for _ in range(_ATTEMPTS):
        image = foils.compose(rng)
        found = make(foils, rng, image, foils.tell(rng, image))
        if found is not None:
            return found
    raise ValueError(
        f"no foil of kind {kind} found in {_ATTEMPTS:,} attempts: the settings leave too few images; withhold fewer "
        "pairs, prepare more pictures, or leave this kind out"
    )


def choose(rng: random.Random, items: Sequence[Any]) -> Any:
    """One of the items, which are equally likely; None if there is none."""
    return items[below(rng, len(items))] if items else None


def _replace_object(foils: Foils, rng: random.Random, image: Any, told: Telling) -> Drawn | None:
    index = foils.index(image, choose(rng, told.names))
    item = foils.renamed(rng, image, foils.objects(image)[index])
    return None if item is None else _replaced(foils, rng, image, told, index, item)


def _replace_attribute(foils: Foils, rng: random.Random, image: Any, told: Telling) -> Drawn | None:
    stated = choose(rng, told.stated)
    if stated is None:
        return None
    kind, name = stated
    index = foils.index(image, name)
    item = foils.objects(image)[index]
    changed = foils.with_value(rng, item, kind, foils.other_value(rng, image, item, kind))
    return _replaced(foils, rng, image, told, index, changed)


def _replaced(foils: Foils, rng: random.Random, image: Any, told: Telling, index: int, item: Any) -> Drawn | None:
    other = foils.settled(rng, image, foils.changed(image, index, item), told)
    return None if other is None else foils.pair(told, image, other, foils.retold(told, image, other))


def _replace_relation(foils: Foils, rng: random.Random, image: Any, told: Telling) -> Drawn | None:
    chosen = choose(rng, told.related)
    if chosen is None:
        return None
    before = _relations(foils, image, told)
    for _ in range(_MOVES):
        objects = foils.objects(image)
        centres = draw_centres(rng, foils.layout, len(objects))
        moved = []
        for item, (x, y) in zip(objects, centres, strict=True):
            x, y = jittered(rng, foils.layout, x, y, item.radius)
            moved.append(dataclasses.replace(item, x=x, y=y))
        other = foils.with_objects(image, moved)
        after = _relations(foils, other, told)
        kept = all((after[pair] == stated) == (pair != chosen) for pair, stated in before.items())
        if kept and after[chosen] is not None and foils.belongs(other):
            return foils.pair(told, image, other, foils.retold(told, image, other))
    return None


def _relations(foils: Foils, image: Any, told: Telling) -> dict[frozenset[int], int | None]:
    """By pair of names, the relation of that with the smaller name to the other."""
    named = {foils.name(item): item for item in foils.objects(image)}
    return {pair: relation(*(named[name] for name in sorted(pair))) for pair in told.related}


def _swap_object(foils: Foils, rng: random.Random, image: Any, told: Telling) -> Drawn | None:
    if len(told.names) < 2:
        return None
    first = choose(rng, told.names)
    second = choose(rng, [name for name in told.names if name != first])
    objects = list(foils.objects(image))
    one, two = (foils.index(image, name) for name in (first, second))
    objects[one], objects[two] = (foils.placed(rng, objects[a], objects[b]) for a, b in ((one, two), (two, one)))
    other = foils.with_objects(image, objects)
    return foils.pair(told, image, other, told.exchanged(first, second)) if foils.belongs(other) else None


def _swap_attribute(foils: Foils, rng: random.Random, image: Any, told: Telling) -> Drawn | None:
    stated = choose(rng, told.stated)
    if stated is None:
        return None
    kind, first = stated
    second = choose(rng, [name for also, name in told.stated if also == kind and name != first])
    if second is None:
        return None
    objects = list(foils.objects(image))
    one, two = (foils.index(image, name) for name in (first, second))
    values = [getattr(objects[at], foils.fields[kind]) for at in (two, one)]
    for at, value in zip((one, two), values, strict=True):
        objects[at] = foils.with_value(rng, objects[at], kind, value)
    other = foils.with_objects(image, objects)
    words = foils.retold(told, image, other)
    # Where one of the two values is stated more often than the other, the captions are not of the same words.
    if not foils.belongs(other) or sorted(words or ()) != sorted(told.words):
        return None
    return foils.pair(told, image, other, words)


def _add_object(foils: Foils, rng: random.Random, image: Any, told: Telling) -> Drawn | None:
    mention, added = choose(rng, told.room()), foils.stranger(rng, image)
    if mention is None or added is None:
        return None
    joint = (",", "and")[below(rng, 2)]
    return foils.single(told, image, (*told.words[: mention.stop], joint, *added, *told.words[mention.stop :]))


def _add_attribute(foils: Foils, rng: random.Random, image: Any, told: Telling) -> Drawn | None:
    lacking = [(m, kind) for m in told.mentions for kind in foils.fields if (kind, m.name) not in told.stated]
    if not lacking:
        return None
    mention, kind = choose(rng, lacking)
    item = foils.objects(image)[foils.index(image, mention.name)]
    wrong = foils.with_value(rng, item, kind, foils.other_value(rng, image, item, kind))
    at = told.place(mention, kind)
    return foils.single(told, image, (*told.words[:at], foils.attribute_word(wrong, kind), *told.words[at:]))


_MAKERS: dict[str, Maker] = {
    "replace_object": _replace_object,
    "replace_attribute": _replace_attribute,
    "replace_relation": _replace_relation,
    "swap_object": _swap_object,
    "swap_attribute": _swap_attribute,
    "add_object": _add_object,
    "add_attribute": _add_attribute,
}
