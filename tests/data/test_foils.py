"""Foils of scenes: true of their own image and false of the other, of the split and the law, and balanced as text."""

import collections
import pickle

import numpy as np
import pytest

from mdc_jax.data import foil_kinds
from mdc_jax.data.scenes import layout, parse
from mdc_jax.data.scenes.foils import PRIOR
from mdc_jax.data.sources import open_source

SPECS = (
    "scenes:test",
    "scenes:test,layout=free,size=64",
    "scenes:validation,sentences=2,redundancy=.5",
    "scenes:train,sentences=4,layout=free",
    "scenes:train,withheld=red-circle+large-star",
    "scenes:test,sentences=2,background=last",
)
COUNT = 150
# Which claims may differ between the captions of a pair.
CHANGED = {
    "replace_object": {"shape", "pair", "size", "texture", "position", "relation"},  # all name the object
    "replace_attribute": {"pair", "size", "texture"},
    "replace_relation": {"relation"},
    "swap_object": {"shape", "pair", "size", "texture", "position", "relation"},
    "swap_attribute": {"pair", "size", "texture"},
}


def drawn(spec, kind, count=COUNT):
    source = open_source(spec)
    return source, [source.foil_contents(kind, index) for index in range(count)]


def judged(source, caption, scene):
    return parse.judge(parse.parse(caption, source.settings.sentences, source.settings.background), scene)


def right(source, caption, scene):
    return judged(source, caption, scene).right


@pytest.mark.parametrize("kind", foil_kinds.KINDS)
@pytest.mark.parametrize("spec", SPECS)
def test_each_caption_is_true_of_its_image_and_false_of_the_other(spec, kind):
    source, found = drawn(spec, kind)
    for scenes, captions in found:
        assert right(source, captions[0], scenes[0])
        assert not right(source, captions[1], scenes[0])
        if kind in foil_kinds.PAIRS:
            assert right(source, captions[1], scenes[1])
            assert not right(source, captions[0], scenes[1])
        for caption in captions:
            verdict = judged(source, caption, scenes[0])
            assert verdict.grammatical and not verdict.repeated
    assert len({captions for _, captions in found}) > 0.9 * COUNT


@pytest.mark.parametrize("kind", foil_kinds.PAIRS)
@pytest.mark.parametrize("spec", SPECS)
def test_scenes_are_of_the_split_and_follow_its_law(spec, kind):
    source, found = drawn(spec, kind)
    settings = source.settings
    for scenes, _ in found:
        for scene in scenes:
            assert layout.belongs(scene, settings.split, settings.withheld)
            for values in ([o.shape for o in scene.objects], [o.colour for o in scene.objects]):
                assert len(set(values)) == len(values)
            assert abs(scene.level - layout.LEVELS[scene.background]) <= layout.LEVEL_JITTER
            for item in scene.objects:
                low, high = layout.RADII[settings.layout][item.size]
                assert low <= item.radius <= high
                reach = 1 / 6 if settings.layout == "grid" else min(item.x, item.y, 1 - item.x, 1 - item.y)
                cell = max(abs(item.x - (item.column + 0.5) / 3), abs(item.y - (item.row + 0.5) / 3))
                offset = cell if settings.layout == "grid" else 0
                assert item.radius + offset <= reach + 1e-9
            boxes = [(o.x, o.y, o.radius) for o in scene.objects]
            for number, (x, y, r) in enumerate(boxes):
                assert all(max(abs(x - a), abs(y - b)) > r + s for a, b, s in boxes[:number])


@pytest.mark.parametrize("kind", foil_kinds.PAIRS)
@pytest.mark.parametrize("spec", SPECS[:3])
def test_the_images_differ_in_what_the_kind_says_and_the_captions_in_these_words_alone(spec, kind):
    source, found = drawn(spec, kind)
    for scenes, captions in found:
        words = [caption.split() for caption in captions]
        assert len(words[0]) == len(words[1])
        if kind.startswith("swap"):
            assert sorted(words[0]) == sorted(words[1])
        settings = source.settings
        parsed = [parse.parse(caption, settings.sentences, settings.background).statements for caption in captions]
        if kind != "swap_object":  # where names change places, so do numbers of words
            different = [(a, b) for a, b in zip(*parsed, strict=True) if a != b]
            assert {a.kind for a, _ in different} <= CHANGED[kind]
            assert all(a[:3] == b[:3] for a, b in zip(*parsed, strict=True))
        changed = [
            collections.Counter(f for f in ("shape", "colour", "size", "texture") if getattr(a, f) != getattr(b, f))
            for a, b in zip(scenes[0].objects, scenes[1].objects, strict=True)
        ]
        moved = [(a.row, a.column) != (b.row, b.column) for a, b in zip(*(s.objects for s in scenes), strict=True)]
        if kind == "swap_object":
            assert not any(changed) and sum(moved) <= 2
            cells = [sorted((o.row, o.column) for o in scene.objects) for scene in scenes]
            assert cells[0] == cells[1] and scenes[0].background == scenes[1].background
        elif kind == "replace_relation":
            assert not any(changed) and any(
                (a.x, a.y) != (b.x, b.y) for a, b in zip(*(s.objects for s in scenes), strict=True)
            )
        elif kind == "swap_attribute":
            assert [sum(c.values()) for c in changed if c] == [1, 1] and not any(moved)
        else:
            assert not any(moved)
            shapes = sum(c["shape"] for c in changed)
            assert shapes == (kind == "replace_object")
            assert kind == "replace_object" or sum(c["colour"] for c in changed) <= 1


def test_what_no_caption_mentions_changes_only_where_the_split_needs_it():
    for kind in ("replace_object", "replace_attribute"):
        _, found = drawn("scenes:train", kind)
        alone = []
        for (first, second), _ in found:
            kept = [a for a, b in zip(first.objects, second.objects, strict=True) if a == b]
            alone.append(len(kept) == len(first.objects) - 1 and first.background == second.background)
        assert np.mean(alone) > 0.7  # 10 of the 12 codes are of the split


@pytest.mark.parametrize("kind", foil_kinds.ADDED)
@pytest.mark.parametrize("spec", SPECS[:3])
def test_what_is_added_makes_one_wrong_claim_and_no_caption_longer_than_captions_are(spec, kind):
    source, found = drawn(spec, kind)
    sentences = source.settings.sentences
    for (scene,), (true, false) in found:
        longer = false.split()
        assert len(true.split()) < len(longer) <= 18 * sentences - 1
        verdict = parse.judge(parse.parse(false, sentences), scene)
        wrong = [claim for claim in verdict.claims if not claim.right]
        assert verdict.hallucinated == (kind == "add_object")
        assert len({(claim.start, claim.kind) for claim in wrong}) == len(wrong)
        if kind == "add_attribute":
            (claim,) = wrong
            assert longer[: claim.start] + longer[claim.start + 1 :] == true.split()
        counts = [s.values[0] for s in parse.parse(false, sentences).statements if s.kind == "count"]
        named = {name for sentence in parse.parse(false, sentences).sentences for name in sentence}
        assert len(named) <= min([3, *counts])


def test_with_a_prior_the_true_caption_states_the_frequent_colour_and_the_false_one_another():
    source, found = drawn("scenes:test,prior=.9", PRIOR)
    assert PRIOR in source.foil_kinds and PRIOR not in open_source("scenes:test").foil_kinds
    for (scene,), captions in found:
        colours = {o.shape: o.colour for o in scene.objects}
        first, second = (
            {s.values for s in parse.parse(caption).statements if s.kind == "pair"} for caption in captions
        )
        ((shape, colour),) = first - second
        ((same, other),) = second - first
        assert shape == same == colour == colours[shape] and other not in colours.values()
        assert not right(source, captions[1], scene)


def test_values_are_as_frequent_as_they_should_be():
    """A replaced value is drawn evenly, and swaps are of every attribute."""
    _, found = drawn("scenes:train", "replace_attribute", 600)
    kinds = collections.Counter()
    for _, captions in found:
        (before,) = [a for a, b in zip(*map(str.split, captions), strict=True) if a != b]
        kinds[next(n for n in ("COLOURS", "SIZES", "TEXTURES") if before in getattr(layout, n))] += 1
    assert all(150 < count < 300 for count in kinds.values()) and len(kinds) == 3


def test_a_foil_is_a_function_of_source_kind_and_index():
    source = open_source("scenes:test,layout=free,size=64")
    first = source.foils("swap_object", 7)
    source.foils("swap_object", 3)
    again = pickle.loads(pickle.dumps(source)).foils("swap_object", 7)
    assert first.captions == again.captions and first.kind == again.kind == "swap_object"
    assert all(np.array_equal(a, b) for a, b in zip(first.images, again.images, strict=True))
    assert first.images[0].shape == (64, 64, 3) and not np.array_equal(*first.images)
    assert source.foils("add_object", 7).images[0].shape == (64, 64, 3)
    others = (
        source.foils("swap_attribute", 7),
        open_source("scenes:test,layout=free,size=64,seed=1").foils("swap_object", 7),
    )
    assert all(other.captions != first.captions for other in others)
    with pytest.raises(IndexError, match="foil 20000"):
        source.foils("swap_object", 20_000)


def test_settings_that_leave_no_foil_are_named(monkeypatch):
    monkeypatch.setattr(foil_kinds, "_ATTEMPTS", 3)
    with pytest.raises(ValueError, match="no foil of kind replace_relation found in 3 attempts"):
        for index in range(50):
            open_source("scenes:test").foils("replace_relation", index)


def test_subsets_and_mixtures_have_the_foils_of_their_sources():
    one, two = open_source("scenes:test,size=32"), open_source("scenes:train,prior=.5,size=32")
    subset = open_source("subset:5:scenes:test,size=32")
    assert subset.foil_kinds == one.foil_kinds
    assert subset.foils("add_object", 9).captions == one.foils("add_object", 9).captions
    mixture = open_source("mix:0.5*scenes:test,size=32+0.5*scenes:train,prior=.5,size=32")
    assert mixture.foil_kinds == one.foil_kinds  # the prior's is not common to both
    for index, source in enumerate((one, two)):
        assert mixture.foils("add_object", 6 + index).captions == source.foils("add_object", 3).captions
    assert not hasattr(open_source("columns:caption=1:scenes:test"), "foils")


def test_no_two_purposes_share_random_numbers():
    places = [(index, purpose) for index in (0, 1, 2, (1 << 40) - 1) for purpose in range(10)]
    streams = [layout.stream(seed, split, *place) for seed in (0, 1) for split in layout.SPLITS for place in places]
    assert len({rng.random() for rng in streams}) == len(streams)
