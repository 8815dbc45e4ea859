import collections
import dataclasses
import itertools

import pytest

from mdc_jax.data.scenes import layout
from mdc_jax.data.scenes.layout import BACKGROUNDS, COLOURS, SHAPES, SIZES, TEXTURES, Object, Scene, compose

LAYOUTS = pytest.mark.parametrize("kind", layout.LAYOUTS)


def _description(scene: Scene):
    """What splits must not share: everything but where exactly in its third an object lies."""
    objects = frozenset((o.shape, o.colour, o.size, o.texture, o.row, o.column) for o in scene.objects)
    return scene.background, objects


def test_a_scene_depends_on_seed_split_and_index_only():
    alone = compose("train", 7, seed=3)
    for index in range(10):
        compose("train", index, seed=3)
    assert compose("train", 7, seed=3) == alone
    others = compose("train", 8, seed=3), compose("train", 7, seed=4), compose("test", 7, seed=3)
    assert len({alone, *others}) == 4


@LAYOUTS
def test_splits_share_no_scene(kind):
    seen = {
        split: {_description(compose(split, i, seed=seed, layout=kind)) for seed in (0, 1) for i in range(4000)}
        for split in ("train", "validation", "test")
    }
    assert all(len(scenes) > 4000 for scenes in seen.values())
    for a, b in itertools.combinations(seen.values(), 2):
        assert not a & b


def test_every_one_object_scene_has_one_split_and_splits_are_balanced():
    codes = collections.defaultdict(list)
    attributes = itertools.product(range(6), range(6), range(2), range(2), range(3), range(3), range(3))
    for shape, colour, size, texture, row, column, background in attributes:
        item = Object(shape, colour, size, texture, (column + 0.5) / 3, (row + 0.5) / 3, 0.1)
        code = layout.content_code(Scene(background, 0, (item,)))
        codes[code].append((shape, colour, size, texture, row, column, background))
    assert sorted(codes) == list(range(12))
    assert {len(scenes) for scenes in codes.values()} == {6 * 6 * 2 * 2 * 3 * 3 * 3 // 12}
    for split in ("validation", "test"):
        (code,) = {layout.content_code(compose(split, i)) for i in range(200)}
        scenes = codes[code]
        for values in zip(*scenes, strict=True):
            assert len(set(collections.Counter(values).values())) == 1
        for a, b in itertools.combinations(zip(*scenes, strict=True), 2):
            pairs = collections.Counter(zip(a, b, strict=True))
            mean = len(scenes) / (len(set(a)) * len(set(b)))
            assert all(abs(count / mean - 1) < 0.05 for count in pairs.values())


@LAYOUTS
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_attributes_are_equally_frequent_in_every_split(split, kind):
    n = 6000
    scenes = [compose(split, i, layout=kind) for i in range(n)]
    assert max(abs(sum(len(s.objects) == k for s in scenes) / n - 1 / 3) for k in (1, 2, 3)) < 0.03
    assert max(abs(sum(s.background == b for s in scenes) / n - 1 / 3) for b in range(len(BACKGROUNDS))) < 0.03
    objects = [o for s in scenes for o in s.objects]
    for name, words in (("shape", SHAPES), ("colour", COLOURS), ("size", SIZES), ("texture", TEXTURES)):
        counts = collections.Counter(getattr(o, name) for o in objects)
        assert max(abs(counts[i] / len(objects) - 1 / len(words)) for i in range(len(words))) < 0.025, name


@LAYOUTS
def test_objects_differ_in_shape_and_colour_and_do_not_hide_each_other(kind):
    for i in range(3000):
        scene = compose("train", i, layout=kind)
        assert 1 <= len(scene.objects) <= 3
        assert len({o.shape for o in scene.objects}) == len({o.colour for o in scene.objects}) == len(scene.objects)
        for o in scene.objects:
            edges = o.x - o.radius, o.y - o.radius, 1 - o.x - o.radius, 1 - o.y - o.radius
            assert min(edges) >= -1e-9
        for a, b in itertools.combinations(scene.objects, 2):
            assert max(abs(a.x - b.x), abs(a.y - b.y)) >= a.radius + b.radius - 1e-9


def test_on_the_grid_an_object_stays_in_its_cell():
    for i in range(2000):
        for o in compose("train", i).objects:
            assert o.column / 3 <= o.x - o.radius + 1e-9 and o.x + o.radius <= (o.column + 1) / 3 + 1e-9
            assert o.row / 3 <= o.y - o.radius + 1e-9 and o.y + o.radius <= (o.row + 1) / 3 + 1e-9


def test_free_positions_say_nothing_of_sizes():
    large = [o for i in range(6000) for o in compose("train", i, layout="free").objects if o.size == 1]
    small = [o for i in range(6000) for o in compose("train", i, layout="free").objects if o.size == 0]
    for of in (lambda o: o.x, lambda o: abs(o.x - 0.5), lambda o: abs(o.y - 0.5)):
        means = [sum(map(of, objects)) / len(objects) for objects in (large, small)]
        assert abs(means[0] - means[1]) < 0.01


def _at(x: float, y: float) -> Object:
    return Object(0, 0, 0, 0, x, y, 0.1)


def test_a_relation_needs_a_clear_direction():
    centre = _at(0.5, 0.5)
    words = [" ".join(relation) for relation in layout.RELATIONS]
    for x, y, expected in ((0.2, 0.5, "left of"), (0.8, 0.45, "right of"), (0.55, 0.2, "higher than")):
        assert words[layout.relation(_at(x, y), centre)] == expected
    assert words[layout.relation(centre, _at(0.55, 0.2))] == "lower than"
    for x, y in ((0.2, 0.2), (0.2, 0.35), (0.5, 0.5)):
        assert layout.relation(_at(x, y), centre) is None


def test_relations_invert():
    opposite = {0: 1, 1: 0, 2: 3, 3: 2, None: None}
    for i in range(1000):
        for a, b in itertools.permutations(compose("train", i, layout="free").objects, 2):
            assert layout.relation(a, b) == opposite[layout.relation(b, a)]


def test_the_prior_ties_colour_to_shape_in_training_only():
    def tied(split: str, prior: float) -> float:
        objects = [o for i in range(4000) for o in compose(split, i, prior=prior).objects]
        return sum(o.shape == o.colour for o in objects) / len(objects)

    assert tied("train", 1.0) == 1.0
    assert 0.88 < tied("train", 0.9) < 0.95
    assert 0.14 < tied("train", 0.0) < 0.2
    assert 0.14 < tied("test", 0.9) < 0.2
    for i in range(1000):
        scene = compose("train", i, prior=0.5)
        assert len({o.colour for o in scene.objects}) == len(scene.objects)


def test_withheld_pairs_are_in_their_own_split_only():
    pairs = (frozenset({"red", "circle"}), frozenset({"large", "star"}))
    for split in ("train", "validation", "test", "withheld"):
        scenes = [compose(split, i, withheld=pairs) for i in range(1500)]
        for scene in scenes:
            words = [{SHAPES[o.shape], COLOURS[o.colour], SIZES[o.size], TEXTURES[o.texture]} for o in scene.objects]
            assert any(pair <= have for pair in pairs for have in words) == (split == "withheld")
        counts = collections.Counter(len(s.objects) for s in scenes)
        assert all(abs(counts[k] / len(scenes) - 1 / 3) < 0.06 for k in (1, 2, 3))


def test_withholding_everything_is_an_error():
    pairs = tuple(frozenset({texture, shape}) for texture in TEXTURES for shape in SHAPES)
    with pytest.raises(ValueError, match="withhold fewer pairs"):
        compose("train", 0, withheld=pairs)


def test_scenes_are_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        compose("train", 0).level = 0
