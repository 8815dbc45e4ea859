import re

import hypothesis
import hypothesis.strategies as st
import pytest

from mdc_jax.data.scenes import layout, parse
from mdc_jax.data.scenes.layout import COLOURS, SIZES, TEXTURES, Object, Scene
from mdc_jax.data.sources import scenes

ADJECTIVES = {*SIZES, *TEXTURES, *COLOURS}

# A large plain red circle at the top left, a small striped blue star at the top right.
SCENE = Scene(1, 42, (Object(0, 0, 1, 0, 0.17, 0.17, 0.15), Object(3, 2, 0, 1, 0.83, 0.17, 0.11)))


def _verdict(caption: str, sentences: int = 1):
    return parse.judge(parse.parse(caption, sentences), SCENE)


@pytest.mark.parametrize(
    "spec",
    [
        "train",
        "test,layout=free",
        "train,sentences=2",
        "train,sentences=4,redundancy=0.5",
        "withheld,withheld=red-star",
        "train,background=first",
        "train,sentences=2,background=last,lengths=natural",
    ],
)
def test_every_generated_caption_is_right(spec):
    source = scenes.open(spec)
    for i in range(2000 if source.settings.split != "withheld" else 200):
        verdict = source.check(i, source.captions(i)[0])
        assert verdict.right and verdict.claims and not verdict.repeated and not verdict.hallucinated


def test_captions_of_other_scenes_are_mostly_wrong():
    source = scenes.open("test")
    verdicts = [source.check(i, source.captions(i + 1)[0]) for i in range(2000)]
    assert all(v.grammatical for v in verdicts)
    assert sum(v.right for v in verdicts) < 0.02 * len(verdicts)


@pytest.mark.parametrize("spec", ["train", "train,sentences=2"])
def test_a_caption_without_one_of_its_words_is_not_grammatical_unless_the_word_is_an_adjective(spec):
    source = scenes.open(spec)
    for i in range(400):
        words = source.captions(i)[0].split()
        for at, word in enumerate(words):
            verdict = source.check(i, " ".join(words[:at] + words[at + 1 :]))
            assert not verdict.grammatical or (word in ADJECTIVES and verdict.right)


def test_another_value_of_any_attribute_is_wrong():
    """Every attribute word is replaced by each other one of its kind; nothing else in the caption changes."""
    source = scenes.open("train")
    kinds = (COLOURS, SIZES, TEXTURES, layout.BACKGROUNDS, layout.COUNTS, layout.ROWS, ("left", "right"))
    replaced = 0
    for i in range(400):
        words = source.captions(i)[0].split()
        for at, word in enumerate(words):
            for other in next((kind for kind in kinds if word in kind), ()):
                if other != word:
                    verdict = source.check(i, " ".join([*words[:at], other, *words[at + 1 :]]))
                    assert verdict.grammatical and not verdict.right and not verdict.hallucinated
                    assert all(claim.start <= at < claim.end for claim in verdict.claims if not claim.right)
                    replaced += 1
    assert replaced > 2000


def test_claims_name_their_words():
    caption = "two in all : large red circle left of small striped blue star , on a dark background"
    verdict = _verdict(caption)
    assert verdict.right and not verdict.repeated
    words = caption.split()
    assert [
        (c.kind, " ".join(words[c.start : c.end])) for c in sorted(verdict.claims, key=lambda c: (c.start, c.end))
    ] == [
        ("count", "two"),
        ("size", "large"),
        ("pair", "red circle"),
        ("shape", "circle"),
        ("relation", "left of"),
        ("size", "small"),
        ("texture", "striped"),
        ("pair", "blue star"),
        ("shape", "star"),
        ("background", "dark"),
    ]


@pytest.mark.parametrize(
    ("caption", "wrong"),
    [
        ("red circle and blue star", []),
        ("an image : red circle at the top left along with striped star", []),
        ("blue star right of red circle", []),
        ("blue circle", ["pair"]),
        ("red star at the top right", ["pair"]),
        ("green ring , large plain circle", ["shape", "pair"]),
        ("small circle", ["size"]),
        ("plain blue star", ["texture"]),
        ("red circle right of blue star", ["relation"]),
        ("red circle higher than blue star", ["relation"]),
        ("blue star left of green ring", ["shape", "pair", "relation"]),
        ("red circle at the middle left", ["position"]),
        ("three in all : red circle", ["count"]),
        ("red circle , on a grey background", ["background"]),
    ],
)
def test_what_is_wrong_is_found(caption, wrong):
    verdict = _verdict(caption)
    assert verdict.grammatical
    assert sorted(c.kind for c in verdict.claims if not c.right) == sorted(wrong)


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "circle",
        "red",
        "red circle and",
        "red circle blue star",
        "red large circle",  # adjectives out of order
        "red blue circle",
        "red circle , two in all , on a dark background",  # clauses out of order
        "two in all : red circle , two in all",
        "on a dark background : red circle , on a dark background",
        "red circle left than blue star",
        "red circle at the left top",
        "red circle at the top left left of blue star",  # a position and a relation
        "red circle . blue star",  # two sentences where one is asked for
        "red circle and blue star and green ring and cyan cross",
        "an image of red circle",
        "red circle zebra",
    ],
)
def test_what_the_grammar_does_not_allow(caption):
    verdict = _verdict(caption)
    assert not verdict.grammatical and not verdict.right


@pytest.mark.parametrize(
    ("background", "caption", "grammatical"),
    [
        ("first", "on a dark background : two in all : red circle . blue star", True),
        ("first", "red circle . blue star , on a dark background", False),
        ("first", "on a dark background : on a dark background : red circle . blue star", False),
        ("first", "on a dark background : red circle . blue star , on a dark background", False),
        ("last", "red circle . blue star , two in all , on a dark background", True),
        ("last", "on a dark background : red circle . blue star", False),
        ("last", "red circle , on a dark background . blue star", False),
        ("last", "red circle . blue star , on a dark background , two in all", False),
        ("last", "red circle . blue star", False),
    ],
)
def test_a_stated_background_stands_where_the_spec_has_it_and_nowhere_else(background, caption, grammatical):
    verdict = parse.judge(parse.parse(caption, 2, background), SCENE)
    assert verdict.grammatical == verdict.right == grammatical


def test_sentences_are_counted():
    assert _verdict("red circle . blue star", 2).right
    assert not _verdict("red circle", 2).grammatical
    assert not _verdict("red circle . blue star . red circle", 2).grammatical
    assert not _verdict("red circle at the top left . red circle left of blue star", 2).grammatical


def test_repeated_and_hallucinated_objects():
    assert _verdict("red circle and large circle").repeated
    assert not _verdict("red circle . large circle", 2).repeated
    assert _verdict("red ring and blue cross").hallucinated == 2
    assert _verdict("blue circle").hallucinated == 0
    itself = _verdict("red circle left of large circle")
    assert itself.grammatical and not itself.right


# The grammar once more, as one regular expression.
_OBJECT = (
    r"(?=\S+ \S)(?!(?:circle|square|triangle|star|cross|ring)\b)"
    r"((small|large) )?((plain|striped) )?((red|green|blue|yellow|cyan|magenta) )?"
    r"(circle|square|triangle|star|cross|ring)( at the (top|middle|bottom) (left|centre|right))?"
)
_BETWEEN = r"( ,| and| along with| left of| right of| higher than| lower than) "
_COUNT, _BACKGROUND = r"(one|two|three) in all", r"on a (black|dark|grey) background"
_SENTENCE = re.compile(
    rf"(?:(?P<c>{_COUNT}) : |(?P<i>an image : )|(?P<b>{_BACKGROUND}) : )?"
    rf"{_OBJECT}(?:{_BETWEEN}{_OBJECT}){{0,2}}"
    rf"(?: , (?P<b2>{_BACKGROUND}))?(?: , (?P<c2>{_COUNT}))?"
)


def _is_sentence(caption: str) -> bool:
    found = _SENTENCE.fullmatch(caption)
    if not found or (found["b"] and found["b2"]) or (found["c"] and found["c2"]):
        return False
    return not (" at the " in caption and re.search(r"(left|right) of|(higher|lower) than", caption))


_CAPTIONS = [scenes.open("train").captions(i)[0] for i in range(500)]
_VOCABULARY = sorted({word for caption in _CAPTIONS for word in caption.split()})


@hypothesis.given(st.data())
@hypothesis.settings(max_examples=1000, deadline=None, derandomize=True)
def test_the_parser_accepts_exactly_the_grammar(data):
    """Captions with a few words deleted, replaced, inserted or swapped, against the regular expression."""
    words = data.draw(st.sampled_from(_CAPTIONS)).split()
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(words)))
        other = data.draw(st.sampled_from(_VOCABULARY))
        edit = data.draw(st.sampled_from(["delete", "replace", "insert", "repeat"]))
        length = data.draw(st.integers(1, 5))
        words = {
            "delete": words[:at] + words[at + length :],
            "replace": [*words[:at], other, *words[at + 1 :]],
            "insert": [*words[:at], other, *words[at:]],
            "repeat": words[: at + length] + words[at:],
        }[edit]
    caption = " ".join(words)
    assert parse.parse(caption).grammatical == _is_sentence(caption), caption
