import hashlib
import pathlib
import pickle

import numpy as np
import pytest

from mdc_jax import command
from mdc_jax.config import parse
from mdc_jax.data import tokenizer
from mdc_jax.data.scenes import grammar
from mdc_jax.data.scenes.labels import FAMILIES, Labels
from mdc_jax.data.scenes.layout import COLOURS, RELATIONS, SHAPES, Object, Scene
from mdc_jax.data.sources import scenes


def test_a_record_is_a_function_of_its_index():
    source = scenes.open("train,size=64,layout=free")
    first = source[5]
    for i in range(5):
        source[i]
    again = pickle.loads(pickle.dumps(source))[5]
    assert np.array_equal(first.image, again.image) and first.captions == again.captions
    assert first.image.shape == (64, 64, 3) and first.image.dtype == np.uint8
    assert len(first.captions) == 1
    assert first.captions[0] == source.captions(5)[0]
    assert all(np.array_equal(first.labels[f], again.labels[f]) for f in source.families)


def test_length_and_bounds():
    assert len(scenes.open("train")) == 1_000_000
    assert len(scenes.open("validation")) == len(scenes.open("test")) == 20_000
    source = scenes.open("test,count=3")
    assert len(list(source)) == 3
    for index in (-1, 3):
        with pytest.raises(IndexError, match="has 3"):
            source[index]


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("", "known: "),
        ("trian", 'did you mean "train"'),
        ("train,siez=48", 'did you mean "size"'),
        ("train,size", "KEY=VALUE"),
        ("train,size=big", "size=big"),
        ("train,size=48,size=64", "twice"),
        ("train,size=4", "16 to 1024"),
        ("train,layout=ring", "grid, free"),
        ("train,sentences=3", "1, 2 or 4"),
        ("train,redundancy=0.5", "sentences=1"),
        ("train,sentences=2,redundancy=2", "from 0 to 1"),
        ("train,background=left", "first or last"),
        ("train,lengths=long", "equal, natural, relation"),
        ("train,prior=-1", "from 0 to 1"),
        ("train,prior=nan", "from 0 to 1"),
        ("train,seed=-1", "0 or more"),
        ("train,withheld=red", "two attributes"),
        ("train,withheld=red-blue", "different kinds"),
        ("train,withheld=rde-circle", 'did you mean "red"'),
        ("withheld", "needs the pairs"),
    ],
)
def test_a_bad_spec_is_explained(rest, message):
    with pytest.raises(ValueError, match=message):
        scenes.open(rest)


def test_the_fingerprint_changes_with_what_is_drawn():
    specs = ["train", "test", "train,size=64", "train,layout=free", "train,seed=1", "train,prior=0.5", "train,count=9"]
    specs += [
        "train,background=first",
        "train,background=last",
        "train,lengths=natural",
        "train,sentences=2",
        "train,sentences=2,redundancy=1",
        "train,withheld=red-circle",
    ]
    assert len({scenes.open(spec).fingerprint for spec in specs}) == len(specs)
    assert scenes.open("train,size=48,prior=0.0").fingerprint == scenes.open("train").fingerprint
    # Data sets of before there were background= and lengths= are the ones that checkpoints of then know.
    assert scenes.open("train,lengths=equal").fingerprint.startswith("d14032a07ac4")
    same = scenes.open("train,withheld=red-star+blue-ring"), scenes.open("train,withheld=ring-blue+star-red")
    assert same[0].fingerprint == same[1].fingerprint


def test_the_definition_has_not_changed():
    """If this fails on purpose, raise scenes.VERSION, so that runs on other scenes are told apart, and update it."""
    digest = hashlib.sha256()
    for rest in ("train", "test,layout=free", "train,sentences=4,redundancy=0.5,prior=0.5,withheld=red-circle"):
        source = scenes.open(rest)
        for i in range(50):
            scene = source.contents(i)
            objects = [(o.shape, o.colour, o.size, o.texture, round(o.x, 6), round(o.y, 6)) for o in scene.objects]
            digest.update(repr((scene.background, scene.level, objects, source.captions(i)[0])).encode())
    assert (scenes.VERSION, digest.hexdigest()[:16]) == (1, "73e66aa54fa4cc44")


def test_claims_count_what_the_own_caption_says():
    source = scenes.open("train,sentences=2")
    for i in range(200):
        words = source.captions(i)[0].split()
        claims = source.claims(i)
        assert claims["shape"] == sum(w in SHAPES for w in words)
        assert claims["pair"] == sum(w in COLOURS for w in words)
        assert claims.get("position", 0) == words.count("at")
        assert claims.get("relation", 0) == words.count("of") + words.count("than")


def _item(shape: int, colour: int, size: int, x: float, y: float) -> Object:
    return Object(shape, colour, size, 1, x, y, 0.1)


def test_labels_of_a_known_scene():
    labels = Labels(Scene(2, 78, (_item(0, 1, 1, 0.2, 0.5), _item(3, 0, 0, 0.8, 0.5))))
    assert set(labels) == set(FAMILIES) and len(labels) == len(FAMILIES)
    assert labels["shape"].tolist() == [1, 0, 0, 1, 0, 0]
    assert labels["colour"].tolist() == [1, 1, 0, 0, 0, 0]
    assert labels["size"].tolist() == [1, 1]
    assert labels["texture"].tolist() == [0, 1]
    assert labels["count"] == 1 and labels["background"] == 2
    pairs = [name for name, present in zip(FAMILIES["pair"].names, labels["pair"], strict=True) if present]
    assert sorted(pairs) == ["green circle", "red star"]
    assert FAMILIES["relation"].names[labels["relation"]] == "right"  # from the larger to the smaller


@pytest.mark.parametrize(
    "objects",
    [
        (_item(0, 0, 1, 0.5, 0.5),),
        (_item(0, 0, 1, 0.2, 0.5), _item(1, 1, 1, 0.8, 0.5)),
        (_item(0, 0, 1, 0.2, 0.2), _item(1, 1, 0, 0.8, 0.8)),  # diagonal
        (_item(0, 0, 1, 0.2, 0.5), _item(1, 1, 0, 0.8, 0.5), _item(2, 2, 0, 0.5, 0.2)),
    ],
)
def test_no_relation_without_one_of_each_size_and_a_clear_one(objects):
    assert Labels(Scene(0, 8, objects))["relation"] == -1


def test_labels_fit_their_families():
    source = scenes.open("test")
    applies = 0
    for i in range(300):
        labels = source[i].labels
        for name, family in source.families.items():
            label = np.asarray(labels[name])
            if family.kind == "presence":
                assert label.dtype == np.uint8 and label.shape == (len(family.names),) and label.any()
            else:
                assert label.shape == () and -1 <= label < len(family.names)
        applies += labels["relation"] >= 0
    assert len(FAMILIES["relation"].names) == len(RELATIONS)
    assert applies > 10


@pytest.mark.parametrize("sentences", [1, 4])
def test_every_word_is_one_piece(sentences):
    """So that captions of equal length in words are of equal length in tokens."""
    source = scenes.open(f"train,sentences={sentences}")
    captions = [source.captions(i)[0] for i in range(2000)]
    config = pathlib.Path(__file__).parents[2] / "configs" / "scenes.py"
    trained = tokenizer.train(captions, parse(command.load(str(config))).tokenizer)
    for caption in captions:
        ids = trained.encode(caption, (grammar.LONGEST + 1) * sentences)
        assert len(ids) == len(caption.split()) + 1
        assert trained.decode(ids) == caption
