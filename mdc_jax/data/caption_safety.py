"""Which augmentations can make the captions of a source false.

What is mirrored is no longer on the left, a crop cuts away what is named, and other colours make "a red ball" a lie.
A source can say so itself (`unsafe`); what it does not speak of is decided by its captions.
"""

import re
from collections.abc import Iterator

from mdc_jax.config import ConfigError, sections
from mdc_jax.data import augmentation
from mdc_jax.data.captions import read_captions
from mdc_jax.data.sources.base import Source

_READ = 1_000  # records whose captions are looked at
_TOLERATED = 0.01  # share of the captions
_WORDS = {
    "flip": (
        "left right leftmost rightmost leftwards rightwards east west eastern western eastbound westbound "
        "clockwise anticlockwise counterclockwise letter letters text word words writing says reads"
    ),
    "random_crop": (
        r"and with \d+ two three four five six seven eight nine ten eleven twelve dozen dozens both pair couple trio "
        "some several many few all group row crowd "
        "left right top bottom above below beside between behind next corner edge middle center centre background"
    ),
    "color_jitter": (
        "red orange yellow green blue purple violet pink brown black white gray grey silver gold golden beige tan "
        "turquoise teal maroon navy crimson scarlet cyan magenta olive ivory lavender amber blond blonde "
        "dark light bright pale color colour colors colours colorful colourful"
    ),
}
_WHAT = {
    "flip": "say left and right, or speak of writing",
    "random_crop": "name several things, count them or say where they are",
    "color_jitter": "name colours",
}


def check(source: Source, settings: sections.Image) -> None:
    """Raises ConfigError where an augmentation is asked for that is unsafe, and not wanted nevertheless."""
    if settings.unsafe_augmentation:
        return
    for reason in unsafe_augmentations(source, settings):
        raise ConfigError(f"{reason}. Turn it off, or set image.unsafe_augmentation=True if you want it nevertheless")


def unsafe_augmentations(source: Source, settings: sections.Image) -> Iterator[str]:
    """Of every augmentation that is asked for and unsafe, wanted nevertheless or not: which, and why."""
    for name, asked in augmentation.wanted(settings).items():
        reason = unsafe(source, name) if asked else None
        if reason:
            yield f"image.{name}={getattr(settings, name)} can make captions of {source.spec} false: {reason}"


def unsafe(source: Source, name: str) -> str | None:
    """Why an augmentation ("flip", "random_crop", "color_jitter") is unsafe for a source; None where it is not.

    Words stand for claims, so that this errs on the side of safety: "right" need not be a side.
    """
    declared = getattr(source, "unsafe", {})
    if name in declared:
        return declared[name]
    word = re.compile(rf"\b({_WORDS[name].replace(' ', '|')})\b", re.IGNORECASE)
    captions = list(read_captions(source, _READ))
    found = [caption for caption in captions if word.search(caption)]
    if len(found) <= _TOLERATED * len(captions):
        return None
    return f'{len(found)} of {len(captions)} captions {_WHAT[name]}, as "{found[0][:80]}"'
