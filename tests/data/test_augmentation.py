"""Augmentations of the pixels, and which of them the captions allow."""

import itertools
import pathlib
import re

import numpy as np
import PIL.Image
import PIL.ImageEnhance
import pytest

from mdc_jax import command
from mdc_jax.config import ConfigError, parse, sections
from mdc_jax.data import augmentation, caption_safety, pipeline, tokenizer
from mdc_jax.data.sources import open_source

FAKE = "fake:train,size=8,words=4"


def _pixels():
    return np.random.default_rng(0).integers(60, 180, (6, 6, 3), dtype=np.uint8)


def test_half_of_the_images_are_mirrored():
    pixels, flip = _pixels(), sections.Image(flip=True)
    mirrored = 0
    for seed in range(200):
        found = augmentation.augment(pixels, flip, np.random.default_rng(seed))
        mirrored += np.array_equal(found, pixels[:, ::-1])
        assert np.array_equal(found, pixels) or np.array_equal(found, pixels[:, ::-1])
    assert 70 < mirrored < 130
    np.testing.assert_array_equal(pixels, _pixels())


class _Factors:
    """A generator that draws these factors."""

    def __init__(self, *factors):
        self._factors = factors

    def uniform(self, *_):
        return np.asarray(self._factors)


def test_colours_change_as_in_pillow():
    pixels, jitter = _pixels(), sections.Image(color_jitter=0.5)
    for factors, enhancer in (
        ((1.2, 1, 1), PIL.ImageEnhance.Brightness),
        ((1, 0.7, 1), PIL.ImageEnhance.Contrast),
        ((1, 1, 0.4), PIL.ImageEnhance.Color),
    ):
        found = augmentation.augment(pixels, jitter, _Factors(*factors))
        expected = np.asarray(enhancer(PIL.Image.fromarray(pixels)).enhance(min(factors) if min(factors) < 1 else 1.2))
        assert np.abs(found.astype(int) - expected).max() <= 2
    np.testing.assert_array_equal(augmentation.augment(pixels, jitter, _Factors(1, 1, 1)), pixels)


def test_the_strength_bounds_the_change():
    grey = np.full((4, 4, 3), 100, np.uint8)
    seen = [
        augmentation.augment(grey, sections.Image(color_jitter=0.2), np.random.default_rng(s))[0, 0, 0]
        for s in range(200)
    ]
    assert 79 <= min(seen) < 85
    assert 115 < max(seen) <= 121


def test_augmented_batches_depend_on_seed_epoch_and_record_alone():
    source = open_source(f"{FAKE},count=6")
    words = tokenizer.train([source[index].captions[0] for index in range(6)], sections.Tokenizer(vocab_size=300))
    image = sections.Image(size=8, flip=True, color_jitter=0.3)
    config = sections.Config(image=image, data=sections.Data(batch_size=4, max_tokens=8))

    def take(count, **options):
        with pipeline.TrainBatches(source, words, config, **options) as batches:
            return np.concatenate([batch["image"] for batch in itertools.islice(batches, count)])

    whole = take(6, position=0)
    np.testing.assert_array_equal(take(3, position=12), whole[12:])
    halves = [take(6, position=0, rows=rows).reshape(6, 2, 8, 8, 3) for rows in ((0, 1), (2, 3))]
    np.testing.assert_array_equal(np.concatenate(halves, axis=1).reshape(whole.shape), whole)
    evaluated = next(pipeline.eval_batches(source, words, config, count=6, batch_size=6))["image"]
    np.testing.assert_array_equal(evaluated, [source[index].image for index in range(6)])


def _folder(path, captions):
    for number, caption in enumerate(captions):
        PIL.Image.fromarray(_pixels()).save(path / f"{number:03}.png")
        (path / f"{number:03}.txt").write_text(caption)
    return open_source(f"folder:{path}")


AUGMENTATIONS = {"flip": True, "random_crop": 0.5, "color_jitter": 0.1}


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("spec", ["scenes:train", "subset:9:scenes:train", f"mix:99*{FAKE}+1*scenes:train"])
def test_scenes_allow_none(spec, name):
    settings = {name: AUGMENTATIONS[name]}
    with pytest.raises(
        ConfigError, match=rf"image\.{name}=.*can make captions of .* false: .*unsafe_augmentation=True"
    ):
        caption_safety.check(open_source(spec), sections.Image(**settings))
    caption_safety.check(open_source(spec), sections.Image(**settings, unsafe_augmentation=True))
    caption_safety.check(open_source(spec), sections.Image())


@pytest.mark.parametrize(
    ("caption", "name"),
    [
        ("The house on the left.", "flip"),
        ("A cat and a dog.", "random_crop"),
        ("Two cats.", "random_crop"),
        ("Players, 11 of them.", "random_crop"),
        ("A RED ball.", "color_jitter"),
        ("A crimson dress.", "color_jitter"),
        ("The westbound train.", "flip"),
    ],
)
def test_captions_decide_for_other_sources(tmp_path, caption, name):
    source = _folder(tmp_path, ["A bird.", "A lefty.", "A sandy colony.", "A kitten.", caption])
    assert "1 of 5 captions" in caption_safety.unsafe(source, name)
    assert caption in caption_safety.unsafe(source, name)
    with pytest.raises(ConfigError, match=rf"image\.{name}"):
        caption_safety.check(source, sections.Image(**{name: AUGMENTATIONS[name]}))
    others = set(AUGMENTATIONS) - {name}
    if caption != "The house on the left.":  # which says where, too
        assert not any(caption_safety.unsafe(source, other) for other in others)


def test_one_caption_in_a_hundred_is_tolerated(tmp_path):
    source = _folder(tmp_path, ["A bird."] * 99 + ["A blue bird."])
    assert caption_safety.unsafe(source, "color_jitter") is None


def test_what_the_readme_trains_on_own_data_is_guarded():
    """The config for pictures crops these whatever their captions say; for others it must not."""
    root = pathlib.Path(__file__).parents[2]
    text = (root / "mdc_jax/data/README.md").read_text()
    configs = re.findall(r"--config=(\S+)[^`]*?(?:photos|workdir=runs/mine)", text.partition("## Tokenizers")[0])
    assert len(configs) == 2
    for config in configs:
        image = parse(command.load(str(root / config))).image
        assert not image.unsafe_augmentation and not any(augmentation.wanted(image).values())
    assert parse(command.load(str(root / "configs/pictures.py"))).image.unsafe_augmentation
