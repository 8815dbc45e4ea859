"""Emoji in four styles, drawn from the vector graphics of node packages, with their Unicode names and tags.

A drawing is matched to its name by code points. The style HELD_OUT is in no split that the others are in, so that
features can be probed on drawings of a style that was never seen.
"""

import collections
import contextlib
import json
import pathlib
import re
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from mdc_jax.data.prepare import packages
from mdc_jax.data.prepare.collection import Collection, Picture
from mdc_jax.data.texts import words

NAMES = "emojibase-data"
VERSIONS = {
    "@iconify-json/noto": "1.2.9",
    "@iconify-json/twemoji": "1.2.5",
    "@iconify-json/openmoji": "1.2.29",
    "@iconify-json/fluent-emoji-flat": "1.2.6",
    NAMES: "17.0.0",
}
STYLES = tuple(package for package in VERSIONS if package != NAMES)
HELD_OUT = "openmoji"  # drawn with black outlines, unlike the others
LICENCE = "Noto: Apache-2.0; Twemoji: CC-BY-4.0; OpenMoji: CC-BY-SA-4.0; Fluent Emoji: MIT; names and tags: MIT"
ATTRIBUTION = (
    "Noto Emoji, Google Inc, https://github.com/googlefonts/noto-emoji; Twemoji, Twitter and contributors, "
    "https://github.com/jdecked/twemoji; OpenMoji, https://openmoji.org; Fluent Emoji, Microsoft Corporation, "
    "https://github.com/microsoft/fluentui-emoji; names and tags: Emojibase, Miles Johnson, https://emojibase.dev; all "
    "rendered to pixels"
)
FAMILY = "emoji_group"
KINDS = {
    "smileys & emotion": "faces",
    "people & body": "people",
    "animals & nature": "nature",
    "food & drink": "food",
    "travel & places": "travel",
    "activities": "activities",
    "objects": "objects",
    "symbols": "symbols",
    "flags": "flags",
}

_MEGABYTES = 14
_NAME = re.compile(r"\w[\w.-]*")  # of icons: it becomes that of a file
_JOINER, _AS_PICTURE = "200d", "fe0f"
_PERSON, _CHILD = "1f9d1", "1f9d2"
# Code points that make variants of one drawing: skin tones and gender signs, which are left out of a
# concept, and words for persons, which are replaced.
_LEFT_OUT = frozenset((_AS_PICTURE, _JOINER, "1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff", "2640", "2642"))
_REPLACED = {"1f468": _PERSON, "1f469": _PERSON, "1f466": _CHILD, "1f467": _CHILD}


class _Emoji(NamedTuple):
    captions: tuple[str, ...]
    concepts: tuple[tuple[str, str], ...]
    group: str
    title: str


@contextlib.contextmanager
def collect(given: str) -> Iterator[Collection]:
    """The emoji of a folder of packages (.tgz files or node_modules) that the user names, or "": of those that npm
    fetches; temporary files live as long.

    Raises:
      FileNotFoundError: the packages cannot be had; says what to do.
      ValueError: they hold something else.
    """
    with tempfile.TemporaryDirectory(prefix="emoji-") as name:
        temporary = pathlib.Path(name)
        wanted = [f"{package}@{version}" for package, version in VERSIONS.items()]
        directory = packages.find_node(wanted, given, temporary, _MEGABYTES)
        try:
            found = _read(directory, temporary / "drawings")
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{directory} holds other packages than {', '.join(wanted)}: {error!r}") from error
        yield found


def _read(directory: pathlib.Path, drawings: pathlib.Path) -> Collection:
    def table(package: str, file: str) -> Any:
        return json.loads(packages.read_node(directory, package, file))

    versions = [f"{package} {table(package, 'package.json')['version']}" for package in VERSIONS]
    known = _names(table(NAMES, "en/data.json"), table(NAMES, "en/messages.json"))
    pictures, dropped = [], collections.Counter()
    for package in STYLES:
        style = package.rpartition("/")[2]
        (drawings / style).mkdir(parents=True)
        icons = table(package, "icons.json")
        for code, icon in table(package, "chars.json").items():
            emoji = known.get(_plain(code))
            if emoji is None:
                dropped["no emoji of Unicode"] += 1
                continue
            if not _NAME.fullmatch(icon):
                raise ValueError(f"{package}: an icon is called {icon!r}, which is no name of a file")
            path = drawings / style / f"{icon}.svg"
            path.write_text(_svg(icons, icon))
            pictures.append(
                Picture(
                    path,
                    f"emoji/{style}/{path.name}",
                    emoji.captions,
                    emoji.concepts,
                    {FAMILY: emoji.group},
                    emoji.title,
                    KINDS.get(emoji.group, ""),
                    held_out=style == HELD_OUT,
                )
            )
    return Collection(", ".join(versions), LICENCE, ATTRIBUTION, pictures, dict(dropped))


def _names(emojis: list[dict[str, Any]], messages: Mapping[str, Any]) -> dict[str, _Emoji]:
    """What is known of every emoji, skin tones included, by its code points."""
    groups = {group["order"]: group["message"] for group in messages["groups"]}
    known = {}
    for emoji in emojis:
        tags = ", ".join(emoji.get("tags", ()))
        concepts = ("title", words(emoji["label"])), ("emoji", _concept(emoji["hexcode"]))
        for variant in (emoji, *emoji.get("skins", ())):
            captions = (variant["label"], tags) if words(tags) else (variant["label"],)
            group = groups.get(variant.get("group"), "")
            known[_plain(variant["hexcode"])] = _Emoji(captions, concepts, group, emoji["label"])
    return known


def _plain(code: str) -> str:
    """Code points without the one that asks for a picture, which not every package writes."""
    return "-".join(point for point in code.lower().split("-") if point != _AS_PICTURE)


def _concept(code: str) -> str:
    """What an emoji is whatever the skin and gender: woman, man and person of a profession are one."""
    points = [_REPLACED.get(point, point) for point in code.lower().split("-") if point not in _LEFT_OUT]
    return "-".join(dict.fromkeys(points))


def _svg(icons: Mapping[str, Any], name: str) -> str:
    icon = icons["icons"][name]
    left, top, width, height = (
        icon.get(key, icons.get(key, default))
        for key, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{width}" height="{height}" viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>'
    )
