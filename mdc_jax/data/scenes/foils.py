"""Foils of scenes; README.md of this folder is the definition."""

import dataclasses
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence

from mdc_jax.data.draws import below, sample
from mdc_jax.data.foil_kinds import choose
from mdc_jax.data.foils import Drawn, Foils
from mdc_jax.data.scenes import grammar, layout, parse
from mdc_jax.data.scenes.layout import COLOURS, LEVELS, SHAPES, SIZES, TEXTURES, Object, Scene
from mdc_jax.data.scenes.parse import Parse
from mdc_jax.data.scenes.telling import Telling

PRIOR = "replace_attribute_prior"  # of sources whose training ties colours to shapes

_MOST_CHANGES = 2  # of what a caption leaves open, that bring a scene into its split


class SceneFoils(Foils[Scene]):
    """Foils whose scenes follow the law of a split; the arguments are those of `layout.draw` and `grammar.caption`."""

    object_kind = "shape"
    fields: Mapping[str, str] = {"size": "size", "texture": "texture", "pair": "colour"}

    def __init__(self, split: str, layout: str, withheld: tuple[frozenset[str], ...], wording: grammar.Wording) -> None:
        self.layout = layout
        self._split, self._withheld = split, withheld
        self._wording = wording
        self.most_words = wording.most_words

    def compose(self, rng: random.Random) -> Scene:
        return layout.draw(rng, self._split, layout=self.layout, withheld=self._withheld)

    def caption(self, rng: random.Random, image: Scene) -> str:
        return grammar.caption(image, rng, self._wording)

    def parse(self, caption: str) -> Parse:
        return parse.parse(caption, self._wording.sentences, self._wording.background)

    def right(self, parsed: Parse, image: Scene) -> bool:
        return parse.judge(parsed, image).right

    def objects(self, image: Scene) -> tuple[Object, ...]:
        return image.objects

    def with_objects(self, image: Scene, objects: Sequence[Object]) -> Scene:
        return dataclasses.replace(image, objects=tuple(objects))

    def name(self, item: Object) -> int:
        return item.shape

    def name_words(self, item: Object) -> tuple[str, ...]:
        return (SHAPES[item.shape],)

    def attribute_word(self, item: Object, kind: str) -> str:
        return {"size": SIZES[item.size], "texture": TEXTURES[item.texture], "pair": COLOURS[item.colour]}[kind]

    def renamed(self, rng: random.Random, image: Scene, item: Object) -> Object:
        return dataclasses.replace(item, shape=choose(rng, _absent(len(SHAPES), [o.shape for o in image.objects])))

    def other_value(self, rng: random.Random, image: Scene, item: Object, kind: str) -> int:
        if kind == "pair":
            return choose(rng, _absent(len(COLOURS), [o.colour for o in image.objects]))
        return 1 - getattr(item, self.fields[kind])

    def stranger(self, rng: random.Random, image: Scene) -> tuple[str, ...]:
        shape = choose(rng, _absent(len(SHAPES), [o.shape for o in image.objects]))
        colour = choose(rng, _absent(len(COLOURS), [o.colour for o in image.objects]))
        item = Object(shape, colour, below(rng, 2), below(rng, 2), 0.5, 0.5, 0.1)
        return grammar.name(rng, item)

    def belongs(self, image: Scene) -> bool:
        return layout.belongs(image, self._split, self._withheld)

    def settled(self, rng: random.Random, image: Scene, other: Scene, told: Telling) -> Scene | None:
        """See `Foils.settled`. As few changes as there have to be, of the background, of sizes and of textures."""
        slots = list(self._left_open(image, told))
        slots = [slots[i] for i in sample(rng, len(slots), len(slots))]
        for number in range(_MOST_CHANGES + 1):
            for chosen in itertools.combinations(slots, number):
                changed = other
                for index, kind, value in chosen:
                    changed = self._with_change(rng, changed, index, kind, value)
                if self.belongs(changed):
                    return changed
        return None

    def _left_open(self, image: Scene, told: Telling) -> Iterator[tuple[int, str, int]]:
        """What a caption does not mention: index of an object (-1: none), kind of claim, another value."""
        if not told.says("background"):
            yield from ((-1, "background", value) for value in _absent(len(LEVELS), [image.background]))
        for index, item in enumerate(image.objects):
            for kind in ("size", "texture"):
                if (kind, item.shape) not in told.stated:
                    yield index, kind, 1 - getattr(item, kind)

    def _with_change(self, rng: random.Random, scene: Scene, index: int, kind: str, value: int) -> Scene:
        if kind == "background":
            level = scene.level - LEVELS[scene.background] + LEVELS[value]
            return dataclasses.replace(scene, background=value, level=level)
        return self.changed(scene, index, self.with_value(rng, scene.objects[index], kind, value))


def replace_attribute_prior(makes: Foils[Scene], rng: random.Random, scene: Scene, told: Telling) -> Drawn | None:
    """Says of an object that has the colour of its shape that it has another one."""
    colour_of = {item.shape: item.colour for item in scene.objects}
    name = choose(rng, [name for kind, name in told.stated if kind == "pair" and colour_of[name] == name])
    if name is None:
        return None
    index = makes.index(scene, name)
    item = scene.objects[index]
    other = dataclasses.replace(item, colour=makes.other_value(rng, scene, item, "pair"))
    return makes.single(told, scene, makes.retold(told, scene, makes.changed(scene, index, other)))


def _absent(number: int, present: Sequence[int]) -> list[int]:
    return [value for value in range(number) if value not in present]
