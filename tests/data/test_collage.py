"""Collages are composed by their law, their captions are true, and text alone tells no label."""

import collections
import io
import itertools
import pickle
import random
import re

import numpy as np
import PIL.Image
import pytest
import sklearn.feature_extraction
import sklearn.linear_model
import sklearn.metrics
import sklearn.pipeline

from mdc_jax.config import ConfigError, sections
from mdc_jax.data import caption_safety, checksums, foil_kinds
from mdc_jax.data.collage import grammar, layout, parse
from mdc_jax.data.prepare import records
from mdc_jax.data.prepare.example import Example
from mdc_jax.data.prepare.manifest import Manifest
from mdc_jax.data.scenes import forms
from mdc_jax.data.scenes.layout import COLUMNS, COUNTS, RADII, RELATIONS, ROWS, SIZES, relation
from mdc_jax.data.sources import open_source
from mdc_jax.data.sources.base import Family
from mdc_jax.data.sources.collage import CollageSource

KINDS = ("animals", "food", "flags")
_LETTERS = "abcdefghijkl"


def _titles(split: str, kind: str) -> list[str]:
    """Kinds differ in how many titles they have of each length, so that a leak would show."""
    one, two = {"animals": (9, 3), "food": (3, 9), "flags": (5, 5)}[kind]
    stem = split[:2] + kind[:3]
    return [stem + a for a in _LETTERS[:one]] + [f"{stem}{a} {stem}{a}x" for a in _LETTERS[:two]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Cut-outs: squares, whose colour says which they are."""
    out = tmp_path_factory.mktemp("pictures")
    plans = []
    for number, split in enumerate(("train", "validation", "test")):
        examples = []
        for kind, name in enumerate(KINDS):
            for at, title in enumerate(_titles(split, name)):
                for height in (20, 32):  # two pictures of each title
                    picture = PIL.Image.new("RGBA", (32, height), (60 + 60 * number, 10 * at, 40 * kind, 255))
                    examples.append(Example(_webp(picture), (title,), {"kind": kind}, {}))
        name = f"{split}-00000-of-00001.arrayrecord"
        plans.append(records.ShardPlan(name, split, split, len(examples), lambda examples=examples: examples))
    manifest = Manifest("test", "", "", {"kind": Family("class", KINDS)}, {})
    records.write_all(out / layout.CUTOUTS, manifest, plans)
    return out


def _webp(picture: PIL.Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "WEBP", lossless=True)
    return file.getvalue()


def _open(folder, rest="train"):
    return open_source(f"collage:{folder}:{rest}")


def test_checksums_are_those_of_the_cut_outs(folder):
    files = checksums.written(_open(folder))
    assert {path.name for path in files} == {f"train-00000-of-00001.{kind}" for kind in ("arrayrecord", "lengths.npy")}
    assert checksums.differing(files) == []


def test_a_record_is_a_function_of_its_index(folder):
    source = _open(folder, "train,size=64,sentences=3")
    first = source[5]
    source[4]
    again = pickle.loads(pickle.dumps(source))[5]
    assert np.array_equal(first.image, again.image) and first.captions == again.captions == source.captions(5)
    assert first.image.shape == (64, 64, 3) and first.image.dtype == np.uint8
    assert all(np.array_equal(first.labels[f], again.labels[f]) for f in source.families)
    assert source.fingerprint == _open(folder, "train,size=64,sentences=3").fingerprint
    rests = ("train,size=64", "train", "test", "train,seed=1", "train,layout=grid", "train,titles=2")
    assert len({source.fingerprint, *(_open(folder, rest).fingerprint for rest in rests)}) == 1 + len(rests)
    assert _open(folder, "train,layout=free,titles=0").fingerprint == _open(folder, "train").fingerprint
    assert _open(folder, "train,seed=1").captions(0) != _open(folder).captions(0)


def test_splits_share_no_title(folder):
    titles = {}
    for split in ("train", "validation", "test"):
        source = _open(folder, split)
        titles[split] = {item.title for i in range(500) for item in source.contents(i).items}
        assert len(titles[split]) == 34
    assert all(a.isdisjoint(b) for a, b in itertools.combinations(titles.values(), 2))


def test_few_titles_are_those_of_most_pictures(folder):
    items = [item for i in range(500) for item in _open(folder, "train,titles=2").contents(i).items]
    every = [title for kind in KINDS for title in _titles("train", kind)]
    expected = {title for kind in KINDS for n in (1, 2) for title in _of_length(_titles("train", kind), n)[:2]}
    assert {item.title for item in items} == expected and len(expected) == 12 < len(every)
    titles = ("a", "b", "b", "c", "c", "a b", "b c")
    cutouts = [(title + str(kind), kind) for kind in (0, 1) for title in titles]
    shelf = layout.Shelf(cutouts, most=2)
    drawn = {shelf.draw(rng, 1)[0] for rng in map(random.Random, range(200))}
    assert drawn == {"b0", "c0", "b1", "c1"}
    # No two things of a collage are the same: three of two words could be drawn for ever.
    with pytest.raises(ValueError, match=r"2 titles of 2 word.*collages of 3 things"):
        layout.Shelf([(title, kind) for title, kind in cutouts if title[:3] != "b c"])


def _of_length(titles: list[str], words: int) -> list[str]:
    return [title for title in titles if len(title.split()) == words]


def test_on_the_grid_every_thing_stays_in_a_cell_of_its_own(folder):
    source = _open(folder, "train,layout=grid")
    for i in range(500):
        items = source.contents(i).items
        assert len({(item.row, item.column) for item in items}) == len(items)
        for item in items:
            low, high = RADII["grid"][item.size]
            assert low <= item.radius <= high
            middle = (item.column + 0.5) / 3, (item.row + 0.5) / 3
            assert max(abs(item.x - middle[0]), abs(item.y - middle[1])) + item.radius < 1 / 6 + 1e-9


@pytest.mark.parametrize("knobs", ["", ",layout=grid"])
def test_every_caption_is_right_and_those_of_others_are_wrong(folder, knobs):
    for sentences in (2, 3, 4):
        source = _open(folder, f"train,sentences={sentences}{knobs}")
        wrong = 0
        for i in range(500):
            (caption,) = source.captions(i)
            verdict = source.check(i, caption)
            assert verdict.right and verdict.claims and not verdict.repeated and not verdict.hallucinated
            assert source.claims(i) == collections.Counter(claim.kind for claim in verdict.claims)
            assert caption.count(forms.STOP) == sentences - 1
            other = source.check(i + 1, caption)
            assert other.grammatical
            wrong += not other.right and other.hallucinated > 0
        assert wrong > 490


def test_claims_are_judged_one_by_one(folder):
    source = _open(folder)
    item = collections.namedtuple("item", "title size row column")
    for i in range(300):
        collage = source.contents(i)
        a, b = collage.items[:2]
        thing = item(a.title, SIZES[a.size], ROWS[a.row], COLUMNS[a.column])
        stated = relation(a, b)
        true = [f"{a.title} , {b.title}", f"{thing.size} {a.title} at the {thing.row} {thing.column}"]
        false = [f"{SIZES[1 - a.size]} {a.title}", f"{COUNTS[4 - len(collage.items)]} in all : {a.title}"]
        (true if stated is not None else false).append(f"{a.title} {' '.join(RELATIONS[stated or 0])} {b.title}")
        false.append(f"{a.title} {' '.join(RELATIONS[1 - (stated or 0) if stated in (0, 1) else 0])} {b.title}")
        for text in true:
            assert source.check(i, f"{text} . {a.title}").right, text
        for text in false:
            verdict = source.check(i, f"{text} . {a.title}")
            assert verdict.grammatical and sum(not claim.right for claim in verdict.claims) == 1, text


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "{a}",  # one sentence only
        "{a} . {a} . {a}",
        "{a} nonsense . {a}",
        "nonsense . {a}",
        "on a dark background : {a} . {a}",
        "{a} at the top . {a}",
        "{a} left of {b} . {a} at the top left",  # positions and relations
    ],
)
def test_what_is_not_grammatical(folder, caption):
    source = _open(folder)
    a, b = source.contents(0).items[:2]
    assert not source.check(0, caption.format(a=a.title, b=b.title)).grammatical


def test_every_form_of_every_length_exists():
    for lengths in itertools.chain.from_iterable(itertools.product(layout.TITLE_LENGTHS, repeat=n) for n in (2, 3)):
        for positions in (False, True):
            table = forms.by_length(grammar._LAW, tuple((n - 1, n) for n in lengths), positions)
            assert all(len(found) for found, _ in table.values())
            assert sorted(table) == list(range(grammar.SHORTEST, grammar.LONGEST + 1))


def test_cut_outs_are_drawn_where_they_are(folder):
    source = _open(folder, "train,size=100")
    for i in range(40):
        collage, image = source.contents(i), source[i].image
        for item in collage.items:
            kind = item.kind
            at = _titles("train", KINDS[kind]).index(item.title)
            middle = image[round(item.y * 100) - 1, round(item.x * 100) - 1].astype(int)
            assert np.abs(middle - (60, 10 * at, 40 * kind)).max() < 3
            assert item.radius * 100 + 1 < item.x * 100 < 99 - item.radius * 100
        corners = image[[0, 0, -1, -1], [0, -1, 0, -1]].astype(int)
        assert corners.min() > 90  # the background is light


N = 8_000


@pytest.fixture(scope="module")
def text_and_labels(folder):
    source = _open(folder)
    captions = [source.captions(i)[0].split() for i in range(N)]
    labels = [source.labels(i) for i in range(N)]
    return captions, {family: np.array([label[family] for label in labels]) for family in source.families}


def _auc(features: list[dict[str, float]], holds: np.ndarray) -> float:
    """Of a logistic regression that is fitted on the first half, on the second half."""
    half = len(features) // 2
    model = sklearn.pipeline.make_pipeline(
        sklearn.feature_extraction.DictVectorizer(), sklearn.linear_model.LogisticRegression(C=0.1, max_iter=300)
    )
    model.fit(features[:half], holds[:half])
    return sklearn.metrics.roc_auc_score(holds[half:], model.predict_proba(features[half:])[:, 1])


def _form(words: list[str]) -> dict[str, float]:
    """All that a caption shows beside which title, value and direction: kinds of words, their places, the length."""
    kinds = [*map(CollageSource.word_kind, words)]
    found = collections.Counter(f"number of {kind}" for kind in kinds)
    found.update({f"{kind} at {at}": 1 for at, kind in enumerate(kinds[:6])})
    found[f"{len(words)} words"] = 1
    return dict(found)


def test_words_are_of_the_kind_that_they_say():
    caption = "three in all : large hot dog left of owl at the top centre"
    kinds = " ".join(map(CollageSource.word_kind, caption.split()))
    assert kinds == "COUNT in all : SIZE TITLE TITLE WHERE of TITLE at the WHERE WHERE"


@pytest.mark.parametrize("settings", [{"flip": True}, {"random_crop": 0.5}, {"color_jitter": 0.1}])
def test_augmentations_that_make_captions_false_are_refused(folder, settings):
    with pytest.raises(ConfigError, match="can make captions of collage:"):
        caption_safety.check(_open(folder), sections.Image(**settings))
    caption_safety.check(_open(folder), sections.Image(**settings, unsafe_augmentation=True))


def test_length_and_kinds_of_words_predict_no_label_within_a_count(text_and_labels):
    captions, labels = text_and_labels
    features = [_form(words) for words in captions]
    for count in (0, 1):
        for family, names in (("kind", KINDS), ("relation", ("left", "right", "higher", "lower"))):
            for at in range(len(names)):
                column = labels[family][:, at] == 1 if family == "kind" else labels[family] == at
                use = np.flatnonzero((labels["count"] == count) & ((family == "kind") | (labels["relation"] >= 0)))
                if len(use) < 200:
                    continue  # relation is a label of two objects only
                # Of n examples in the tested half, chance reaches .5 +- .58 / sqrt(n) / sqrt(share of the rarer class).
                share = min(column[use].mean(), 1 - column[use].mean())
                limit = 4 * 0.41 / np.sqrt(len(use) / 2 * share)
                auc = _auc([features[i] for i in use], column[use])
                assert abs(auc - 0.5) < limit, (family, names[at], count, auc, limit)


def test_length_does_not_even_predict_the_count(text_and_labels):
    captions, labels = text_and_labels
    lengths = np.array([len(words) - words.count(forms.STOP) for words in captions])
    bins = np.arange(2 * grammar.SHORTEST, 2 * grammar.LONGEST + 1)
    assert lengths.min() == bins[0] and lengths.max() == bins[-1]
    for count in (0, 1):
        histogram = np.array([(lengths[labels["count"] == count] == n).sum() for n in bins])
        expected = histogram.sum() / len(bins)
        chi2 = ((histogram - expected) ** 2 / expected).sum()
        assert abs(chi2 - (len(bins) - 1)) / np.sqrt(2 * (len(bins) - 1)) < 5


def test_the_measure_finds_what_captions_could_give_away(text_and_labels):
    captions, labels = text_and_labels
    words = [{word: 1.0 for word in caption} for caption in captions]
    assert _auc(words, labels["kind"][:, 0] == 1) > 0.9


def test_positions_and_relations_never_meet_and_relations_are_clear(folder):
    source = _open(folder, "train,sentences=4")
    related = placed = 0
    for i in range(1000):
        (caption,) = source.captions(i)
        items = {item.title: item for item in source.contents(i).items}
        relations = re.findall(r"(\w+) (left of|right of|higher than|lower than) ", caption)
        assert not (relations and " at the " in caption)
        related += bool(relations)
        placed += " at the " in caption
        for phrase, index in (("left of", 0), ("lower than", 3)):
            for a, b in itertools.permutations(items, 2):
                if re.search(rf"\b{a} {phrase} (?:small |large )?{b}(?: [.,]| and|$)", caption):
                    assert relation(items[a], items[b]) == index
    assert related > 300 and placed > 200


def test_labels(folder):
    source = _open(folder, "test")
    directions = collections.Counter()
    for i in range(400):
        items, labels = source.contents(i).items, source.labels(i)
        assert set(labels) == set(source.families)
        assert labels["kind"].tolist() == [int(any(item.kind == kind for item in items)) for kind in range(3)]
        assert labels["count"] == len(items) - 2
        directions[int(labels["relation"])] += 1
    assert set(directions) == {-1, 0, 1, 2, 3}


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("A chipmunk.", "chipmunk"),
        ("An OWL", "owl"),
        ("flag: Japan", "flag japan"),
        ("the", ""),
        ("dog on a branch", ""),
        ("large dog", ""),
        ("left arrow", ""),
        ("ON! arrow", ""),  # "on" begins a clause of scenes, whose reader is shared
        ("six o\u2019clock", ""),
        ("dino 2", ""),
        ("piñata", ""),
        ("", ""),
    ],
)
def test_titles(title, expected):
    assert grammar.as_title(title) == expected


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("{folder}:trian", 'did you mean "train"'),
        ("{folder}:train,siez=48", 'did you mean "size"'),
        ("{folder}:train,sentences=1", "2, 3 or 4"),
        ("{folder}:train,size=8", "32 to 1024"),
        ("{folder}:train,titles=-1", "0 for all"),
        ("{folder}:train,layout=gird", "one of grid, free"),
        ("{folder}:style", "no split 'style'"),
        ("{folder}", "write collage:DIR:SPLIT"),
        ("nowhere:train", "prepare.pictures"),
    ],
)
def test_a_wrong_spec_is_explained(folder, rest, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        open_source(f"collage:{rest.format(folder=folder)}")


@pytest.mark.parametrize("kind", foil_kinds.KINDS)
@pytest.mark.parametrize(("sentences", "place"), [(2, "free"), (3, "free"), (2, "grid")])
def test_captions_of_foils_are_true_of_their_collage_and_false_of_the_other(folder, sentences, place, kind):
    source = _open(folder, f"test,sentences={sentences},layout={place}")
    for index in range(100):
        collages, captions = source.foil_contents(kind, index)
        held = [[_right(source, caption, collage) for caption in captions] for collage in collages]
        assert held == ([[True, False], [False, True]] if kind in foil_kinds.PAIRS else [[True, False]])
        words = [caption.split() for caption in captions]
        assert max(map(len, words)) <= 14 * sentences - 1
        if kind in foil_kinds.ADDED:
            assert len(words[0]) < len(words[1])
            continue
        assert len(words[0]) == len(words[1])
        assert not kind.startswith("swap") or sorted(words[0]) == sorted(words[1])
        first, second = collages
        assert first.background == second.background
        for item in (*first.items, *second.items):
            low, high = RADII[place][item.size]
            assert low <= item.radius <= high and max(abs(item.x - 0.5), abs(item.y - 0.5)) + item.radius < 0.5
        what = {"title": lambda item: item.title, "size": lambda item: item.size}
        # What grows on the grid gets a new place within its cell.
        what["place"] = lambda item: (item.row, item.column) if place == "grid" else (item.x, item.y)
        differing = [
            {name for name, of in what.items() if of(a) != of(b)}
            for a, b in zip(first.items, second.items, strict=True)
        ]
        changed = {"replace_object": "title", "replace_attribute": "size", "swap_attribute": "size"}.get(kind, "place")
        assert set.union(*differing) == {changed}
        if kind == "replace_relation":  # all places are drawn anew, and a cell can come again
            assert all(a.x != b.x for a, b in zip(first.items, second.items, strict=True))
        else:
            assert sum(map(bool, differing)) == {"replace_object": 1, "replace_attribute": 1}.get(kind, 2)


def _right(source, caption, collage):
    parsed = parse.parse(caption, source.settings.sentences, source._titles)
    return parse.judge(parsed, collage, source._titles).right


def test_a_foil_of_collages_is_drawn_from_its_index(folder):
    source = _open(folder, "validation,size=64")
    assert source.foil_kinds == foil_kinds.KINDS
    first, again = source.foils("swap_object", 3), _open(folder, "validation,size=64").foils("swap_object", 3)
    assert first.captions == again.captions and all(map(np.array_equal, first.images, again.images))
    assert not np.array_equal(*first.images) and first.images[0].shape == (64, 64, 3)
    assert len(source.foils("add_object", 3).images) == 1
    with pytest.raises(IndexError):
        source.foils("add_object", 20_000)
