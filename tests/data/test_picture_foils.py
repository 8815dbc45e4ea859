"""People emoji whose captions differ in one thing."""

import itertools

from mdc_jax.data.prepare import records
from mdc_jax.data.prepare.example import Example
from mdc_jax.data.prepare.manifest import Manifest
from mdc_jax.data.sources import open_source

TONES = ("light", "medium-dark")
LABELS = (
    *(f"{gender} {role}" for gender in ("man", "woman") for role in ("cook", "singer", "in tuxedo")),
    "person in tuxedo",
    "man",
    "old woman",
)
OTHERS = (
    "cook: light skin tone",
    "man and woman: light skin tone",
    "man cook",
    "man cook: light skin tone, facing right",
    "thumbs up: light skin tone",
)


def write(directory, source="emojibase-data 17.0.0"):
    captions = [f"{label}: {tone} skin tone" for label in LABELS for tone in TONES] + list(OTHERS)
    examples = [
        Example(f"{style} {caption}".encode(), (caption, "tags"), {}, {"file": f"emoji/{style}/x{number}.svg"})
        for style in ("noto", "twemoji")
        for number, caption in enumerate(captions)
    ]
    examples.append(Example(b"stamp", ("woman cook: light skin tone",), {}, {"file": "people/cook.png"}))
    plan = records.ShardPlan("t-0.arrayrecord", "test", "1", len(examples), lambda: examples)
    records.write_all(directory, Manifest(source, "", "", {}, {}), [plan])
    return open_source(f"pictures:{directory}:test")


def changed(first, second):
    """What differs between two captions of as many words; None where that is more than one thing."""
    labels, tones = zip(*(caption.removesuffix(" skin tone").split(": ") for caption in (first, second)), strict=True)
    words = [(a, b) for a, b in zip(*map(str.split, labels), strict=True) if a != b]
    if tones[0] != tones[1]:
        return "skin_tone" if not words else None
    if all({a, b} == {"man", "woman"} for a, b in words):
        return "gender"
    genders = [{"man", "woman", "person"}.intersection(label.split()) for label in labels]
    return "role" if genders[0] == genders[1] else None


def test_a_foil_is_two_drawings_of_a_style_that_differ_in_one_thing(tmp_path):
    source = write(tmp_path)
    assert source.foil_kinds == ("replace_role", "replace_gender", "replace_skin_tone")
    for kind in source.foil_kinds:
        foils = []
        for index in itertools.count():
            try:
                foils.append(source.foils(kind, index))
            except IndexError:
                break
        for foil in foils:
            assert foil.kind == f"replace_{changed(*foil.captions)}" == kind
            styles = {image.decode().split()[0] for image in foil.images}
            assert len(styles) == 1 and "stamp" not in styles
            assert [image.decode().partition(" ")[2] for image in foil.images] == list(foil.captions)
        assert len({(frozenset(foil.captions), foil.images) for foil in foils}) == len(foils)
        # By style: cook, singer, tuxedo as man and woman; man's cook and singer; woman's cook, singer and old woman.
        expected = {"replace_gender": 3 * 2, "replace_skin_tone": len(LABELS), "replace_role": (1 + 3) * 2}[kind]
        assert len(foils) == 2 * expected


def test_pictures_without_emoji_have_no_foils(tmp_path):
    assert write(tmp_path, "Tux Paint").foil_kinds == ()
