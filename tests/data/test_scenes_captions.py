"""The captions are true, and neither their length nor the kinds of their words tell what an image shows."""

import collections
import functools
import itertools
import re

import numpy as np
import pytest

from mdc_jax.data import leakage
from mdc_jax.data.scenes import forms, grammar
from mdc_jax.data.scenes.labels import FAMILIES, Labels
from mdc_jax.data.scenes.layout import (
    BACKGROUNDS,
    COLOURS,
    COLUMNS,
    COUNTS,
    RELATIONS,
    ROWS,
    SHAPES,
    SIZES,
    TEXTURES,
    compose,
    relation,
)
from mdc_jax.data.sources import scenes

N, FEW = 15_000, 4_000
# Standard deviations that chance may reach; the samples are fixed, and a few thousand comparisons are made.
Z = 5.0


@functools.cache
def _sample(spec: str, n: int = N):
    """Captions as words, and their scenes."""
    source = scenes.open(spec)
    return [source.captions(i)[0].split() for i in range(n)], [source.contents(i) for i in range(n)]


def _labels(found):
    return {family: np.array([Labels(s)[family] for s in found]) for family in FAMILIES}


def _yes_or_no(labels) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Every label as name → (whether it holds, whether it applies), of each scene."""
    columns = {}
    for family, meta in FAMILIES.items():
        for i, name in enumerate(meta.names):
            values = labels[family]
            holds = values[:, i] == 1 if meta.kind == "presence" else values == i
            columns[f"{family} {name}"] = holds, np.ones(len(holds), bool) if meta.kind == "presence" else values >= 0
    return columns


def _largest_difference(features: dict[str, np.ndarray], holds: np.ndarray) -> tuple[float, str]:
    """The means of each feature with and without a label, apart by how many standard errors; and of which feature.

    Too few scenes for a normal approximation do not count.
    """
    matrix = np.stack(list(features.values()), 1)
    with_label, without = matrix[holds], matrix[~holds]
    fewer = min(len(with_label), len(without))
    if fewer < 20:
        return 0.0, ""
    error = matrix.std(0) * np.sqrt(1 / len(with_label) + 1 / len(without))
    often = fewer * np.minimum((matrix != 0).mean(0), 1) >= 10
    z = np.where(often & (error > 0), abs(with_label.mean(0) - without.mean(0)) / np.where(error > 0, error, 1), 0)
    return float(z.max()), list(features)[int(z.argmax())]


@pytest.mark.parametrize("spec", ["train", "train,layout=free", "train,sentences=2", "train,prior=0.9"])
def test_every_length_is_equally_likely_for_every_count(spec):
    words, found = _sample(spec)
    sentences = scenes.open(spec).settings.sentences
    lengths = np.array([len(w) - w.count(forms.STOP) for w in words])
    shortest, longest = grammar.SHORTEST * sentences, grammar.LONGEST * sentences
    bins = longest - shortest + 1
    counts = np.array([len(s.objects) for s in found])
    for count in (1, 2, 3):
        histogram = np.bincount(lengths[counts == count], minlength=longest + 1)
        assert histogram[:shortest].sum() == 0 and len(histogram) == longest + 1
        expected = histogram.sum() / bins
        chi2 = ((histogram[shortest:] - expected) ** 2 / expected).sum()
        assert abs(chi2 - (bins - 1)) / np.sqrt(2 * (bins - 1)) < Z


def test_captions_fit_the_documented_number_of_tokens():
    for sentences, knobs in ((1, ""), (2, ""), (4, ""), (1, ",background=last"), (2, ",background=first")):
        words, _ = _sample(f"train,sentences={sentences}{knobs}", FEW)
        longest = max(map(len, words))
        most = scenes.open(f"train,sentences={sentences}{knobs}").settings.wording.most_words
        assert longest <= most <= (grammar.LONGEST + 1) * sentences - 1


@pytest.mark.parametrize("sentences", [1, 2])
def test_where_the_background_is_stated_changes_nothing_else(sentences):
    """Of one scene the captions are the same but for the place; the length is uniform and says nothing."""
    (first, found), (last, same) = (
        _sample(f"train,sentences={sentences},background={place}", FEW) for place in ("first", "last")
    )
    assert found == same
    for a, b, scene in zip(first, last, found, strict=True):
        stated = grammar.background_words(scene.background)
        assert a[:5] == [*stated, ":"] and b[-5:] == [",", *stated] and a[5:] == b[:-5]
        assert "background" not in a[5:]
    counts = np.array([len(scene.objects) for scene in found])
    lengths = np.array([len(caption) - caption.count(forms.STOP) for caption in first])
    for count in (1, 2, 3):
        histogram = np.bincount(lengths[counts == count])[5 + 2 * sentences :]
        assert len(histogram) == 10 * sentences + 1 and histogram.sum() == (counts == count).sum()
        expected = histogram.sum() / len(histogram)
        chi2 = ((histogram - expected) ** 2 / expected).sum()
        assert abs(chi2 - len(histogram) + 1) / np.sqrt(2 * (len(histogram) - 1)) < Z


def test_natural_lengths_say_how_many_objects_there_are_and_nothing_beyond():
    words, found = _sample("train,lengths=natural", FEW)
    lengths, counts = np.array([len(w) for w in words]), np.array([len(s.objects) for s in found])
    means = [lengths[counts == count].mean() for count in (1, 2, 3)]
    assert means[1] - means[0] > 1 and means[2] - means[1] > 1
    assert lengths.min() == 2 and lengths.max() == grammar.LONGEST
    for name, (holds, applies) in _yes_or_no(_labels(found)).items():
        for count in (1, 2, 3) if not name.startswith("count ") else ():
            use = applies & (counts == count)
            z, _ = _largest_difference({"length": lengths[use].astype(float)}, holds[use])
            assert z < Z, name


def test_lengths_that_betray_a_relation_tell_its_axis_and_nothing_else():
    (words, found), (equal, same) = (_sample(f"train,lengths={lengths}", FEW) for lengths in ("relation", "equal"))
    assert found == same
    lengths = np.array([len(w) for w in words])
    directions = np.array([relation(*s.objects) if len(s.objects) == 2 else None for s in found])
    unclear = np.equal(directions, None)
    beside, above = np.isin(directions, (0, 1)), np.isin(directions, (2, 3))
    for here, numbers in ((beside, range(5, 18, 2)), (above, range(6, 18, 2)), (unclear, range(5, 18))):
        histogram = np.bincount(lengths[here], minlength=18)
        assert {*np.flatnonzero(histogram)} == {*numbers}
        expected = histogram.sum() / len(numbers)
        chi2 = ((histogram[numbers] - expected) ** 2 / expected).sum()
        assert abs(chi2 - len(numbers) + 1) / np.sqrt(2 * (len(numbers) - 1)) < Z
    for here, direction in ((beside, 0), (above, 2)):
        z, _ = _largest_difference({"length": lengths[here].astype(float)}, directions[here] == direction)
        assert z < Z
    assert all(a == b for a, b, free in zip(words, equal, unclear, strict=True) if free)


def test_natural_lengths_follow_the_documented_weights():
    """One object, one attribute, nothing else: its share of all forms, summed by hand over openers and clauses."""
    words, found = _sample("train,lengths=natural", FEW)
    one = np.array([len(w) for w, s in zip(words, found, strict=True) if len(s.objects) == 1])
    # Objects of 2, 3, 4 words at 1/3, with a place at .4; openers; clauses at .15, none twice. No form is too long.
    chances = {}
    for adjectives in (2, 3, 4):
        for opener, share, words_of in (("", 0.4, 0), ("count", 0.2, 4), ("image", 0.2, 3), ("background", 0.2, 5)):
            for placed, background, count in itertools.product((False, True), repeat=3):
                if (opener == "background" and background) or (opener == "count" and count):
                    continue
                length = adjectives + words_of + 4 * placed + 5 * background + 4 * count
                chance = (
                    share / 3 * (0.4 if placed else 0.6) * np.prod([0.15 if c else 0.85 for c in (background, count)])
                )
                if length <= grammar.LONGEST:
                    chances[length] = chances.get(length, 0) + chance
    total = sum(chances.values())
    for length, chance in chances.items():
        share = chance / total
        assert abs((one == length).mean() - share) < Z * np.sqrt(share * (1 - share) / len(one)) + 1 / len(one)


@pytest.mark.parametrize("spec", ["train", "train,layout=free", "test"])
def test_length_predicts_no_label(spec):
    words, found = _sample(spec)
    labels = _labels(found)
    lengths = np.array([len(w) for w in words], float)
    middle = (grammar.SHORTEST + grammar.LONGEST) / 2
    for name, (holds, applies) in _yes_or_no(labels).items():
        features = {"length": lengths[applies], "distance from the middle": abs(lengths[applies] - middle)}
        z, _ = _largest_difference(features, holds[applies])
        assert z < Z, name


@pytest.mark.parametrize("spec", ["train", "train,layout=free"])
def test_kinds_of_words_predict_no_label_within_a_count(spec):
    """How often each kind of word occurs, and which kind stands where in the caption."""
    words, found = _sample(spec)
    labels = _labels(found)
    counts = np.array([len(s.objects) for s in found])
    features = leakage.kind_features([[*map(scenes.ScenesSource.word_kind, caption)] for caption in words])
    for name, (holds, applies) in _yes_or_no(labels).items():
        for count in (1, 2, 3) if not name.startswith("count ") else ():
            use = applies & (counts == count)
            z, feature = _largest_difference({k: v[use] for k, v in features.items()}, holds[use])
            assert z < Z, f"{feature} and {name}, {count} objects"


def test_the_measure_finds_what_captions_could_give_away():
    """The same test, where the feature is a word itself instead of its kind."""
    words, found = _sample("train")
    labels = _labels(found)
    holds, _ = _yes_or_no(labels)["shape ring"]
    z, _ = _largest_difference({"ring": np.array(["ring" in w for w in words], float)}, holds)
    assert z > 20 * Z


def test_order_of_naming_says_nothing():
    """The first object that is named is any of the scene's with the same chance."""
    words, found = _sample("train")
    first = collections.Counter()
    for caption, scene in zip(words, found, strict=True):
        if len(scene.objects) == 3:
            shape = next(w for w in caption if w in SHAPES)
            ranks = [SHAPES[o.shape] for o in sorted(scene.objects, key=lambda o: (o.size, o.x))]
            first[ranks.index(shape)] += 1
    total = sum(first.values())
    assert all(abs(first[i] / total - 1 / 3) < 0.025 for i in range(3))


def test_captions_make_several_claims_and_mostly_name_objects():
    source = scenes.open("train")
    claims = [source.claims(i) for i in range(2000)]
    assert np.mean([sum(c.values()) for c in claims]) > 5
    assert np.mean([c["shape"] for c in claims]) > 1.5  # of 2 on average


@pytest.mark.parametrize("spec", ["train", "test,layout=free", "train,sentences=2", "train,sentences=4,redundancy=1"])
def test_positions_and_relations_never_meet(spec):
    words, _ = _sample(spec, 4000)
    placed = [bool(set(w) & {"at"}) for w in words]
    related = [bool(set(w) & {"of", "than"}) for w in words]
    assert not any(a and b for a, b in zip(placed, related, strict=True))
    assert np.mean(placed) > 0.1 and np.mean(related) > 0.1


def test_a_relation_is_stated_wherever_it_could_be_or_never_in_a_caption():
    """ "along with" in a caption without positions means that the direction is not clear."""
    words, found = _sample("train,layout=free", 4000)
    stated = 0
    for caption, scene in zip(words, found, strict=True):
        by_shape = {SHAPES[o.shape]: o for o in scene.objects}
        named = [w for w in caption if w in by_shape]
        text = " ".join(caption)
        for a, b in itertools.pairwise(named):
            between = re.search(rf"{a} (along with|left of|right of|higher than|lower than) [a-z ]*{b}", text)
            if between and between[1] != "along with":
                stated += 1
                assert " ".join(RELATIONS[relation(by_shape[a], by_shape[b])]) == between[1]
    assert stated > 200


def test_all_relations_have_as_many_words_as_what_replaces_them():
    assert {len(phrase) for phrase in (*RELATIONS, forms.NO_RELATION)} == {2}
    assert {len(phrase) for phrase in forms.SEPARATORS} == {1}


def test_redundancy_returns_to_the_same_objects():
    def named_again(redundancy: float) -> float:
        source = scenes.open(f"train,sentences=2,redundancy={redundancy}")
        again = total = 0
        for i in range(3000):
            if len(source.contents(i).objects) == 3:
                first, second = (set(s.split()) & set(SHAPES) for s in source.captions(i)[0].split(" . "))
                again += len(first & second)
                total += min(len(first), len(second))
        return again / total

    low, high = named_again(0.0), named_again(1.0)
    assert high == 1.0 and low < 0.75


def test_the_scene_does_not_depend_on_the_caption_knobs():
    one, four = scenes.open("train"), scenes.open("train,sentences=4,redundancy=0.5")
    assert all(one.contents(i) == four.contents(i) for i in range(100))


def test_vocabulary_is_what_the_readme_says():
    words, _ = _sample("train,sentences=4", 4000)
    seen = {w for caption in words for w in caption}
    attributes = {*SHAPES, *COLOURS, *SIZES, *TEXTURES, *BACKGROUNDS, *COUNTS, *ROWS, *COLUMNS}
    assert attributes <= seen
    others = ". , : and along with of than higher lower an image at the on a background in all"
    assert sorted(seen - attributes) == sorted(others.split())


def test_prior_and_withheld_pairs_do_not_change_lengths():
    words, _ = _sample("train,withheld=red-circle+large-star", 6000)
    lengths = np.array([len(w) for w in words])
    assert abs(lengths.mean() - (grammar.SHORTEST + grammar.LONGEST) / 2) < 0.25


def test_compose_and_source_agree():
    assert scenes.open("test,layout=free,seed=5").contents(3) == compose("test", 3, layout="free", seed=5)
