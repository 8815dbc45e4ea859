"""Emoji of the real packages' layout."""

import io
import json
import random
import tarfile

import pytest

from mdc_jax.data.prepare import collection, emoji, packages, pictures
from mdc_jax.data.sources import open_source
from tests import tampering

TONES = ("1F3FB", "1F3FF")
CIRCLE = '<circle cx="5" cy="5" r="{r}" fill="{fill}"/>'


def _emoji(code, label, group, tags=(), skins=()):
    made = {"hexcode": code, "label": label, "group": group, "tags": list(tags)}
    made["skins"] = [{"hexcode": f"{code}-{tone}", "label": f"{label}: tone {tone}", "group": group} for tone in skins]
    return made


EMOJI = [
    _emoji("1F469-200D-1F52C", "woman scientist", 1, ["chemist", "woman"]),
    _emoji("1F468-200D-1F52C", "man scientist", 1, ["chemist", "man"]),
    _emoji("1F9D1", "person", 1, [], TONES),
    *(_emoji(f"1F4{number:02X}", f"thing {chr(97 + number % 26)}{number}", 7, ["object"]) for number in range(24)),
    *(_emoji(f"1F3{number:02X}", f"food {chr(97 + number % 26)}{number}", 4) for number in range(24)),
    {"hexcode": "1F1E6", "label": "regional indicator A"},
]


@pytest.fixture
def modules(tmp_path):
    root = tmp_path / "node_modules"
    groups = {1: "people & body", 4: "food & drink", 7: "objects"}
    messages = {"groups": [{"order": order, "message": message} for order, message in groups.items()]}
    names = {"data.json": EMOJI, "messages.json": messages}
    for package, version in emoji.VERSIONS.items():
        (root / package / "en").mkdir(parents=True)
        (root / package / "package.json").write_text(json.dumps({"version": version}))
        if package == emoji.NAMES:
            for file, content in names.items():
                (root / package / "en" / file).write_text(json.dumps(content))
            continue
        codes = [each["hexcode"] for each in EMOJI] + [f"1f9d1-{tone.lower()}" for tone in TONES]
        chars = {code.lower() + ("-fe0f" if "noto" in package else ""): f"icon-{code}" for code in codes}
        chars["e50a"] = f"icon-{codes[0]}"
        icons = {
            f"icon-{code}": {"body": CIRCLE.format(r=2 + number % 3, fill=f"#{number * 999983 % 0xFFFFFF:06x}")}
            for number, code in enumerate(codes)
        }
        (root / package / "chars.json").write_text(json.dumps(chars))
        (root / package / "icons.json").write_text(json.dumps({"icons": icons, "width": 10, "height": 10}))
    return root


def test_names_tags_and_groups(modules):
    with emoji.collect(str(modules)) as found:
        assert found.dropped == {"no emoji of Unicode": 4}
        assert len(found.pictures) == 4 * (len(EMOJI) + len(TONES))
        by_name = {picture.name: picture for picture in found.pictures}
        woman = by_name["emoji/noto/icon-1F469-200D-1F52C.svg"]
        assert woman.captions == ("woman scientist", "chemist, woman")
        assert woman.labels == {"emoji_group": "people & body"} and woman.kind == "people"
        tone = by_name["emoji/twemoji/icon-1f9d1-1f3ff.svg"]
        assert tone.captions == ("person: tone 1F3FF",) and tone.title == "person"
        assert by_name["emoji/noto/icon-1F1E6.svg"].labels == {"emoji_group": ""}


def test_variants_of_gender_and_skin_are_one_concept(modules):
    with emoji.collect(str(modules)) as found:
        groups = collection.group_by_concept(found.pictures)
        by_name = {picture.name: group for picture, group in zip(found.pictures, groups, strict=True)}
    scientists = [group for name, group in by_name.items() if "1F52C" in name]
    assert len(scientists) == 8 and len(set(scientists)) == 1
    persons = {group for name, group in by_name.items() if "1f9d1" in name.lower()}
    assert len(persons) == 1 and persons.isdisjoint(scientists)
    assert len(set(groups)) == len(EMOJI) - 1


@pytest.mark.parametrize(
    ("code", "concept"),
    [
        ("1F468-1F3FB-200D-1F680", "1f9d1-1f680"),
        ("1F481-200D-2640-FE0F", "1f481"),
        ("1F1E6-1F1FA", "1f1e6-1f1fa"),
        ("1F1FA-1F1E6", "1f1fa-1f1e6"),
        ("1F469-200D-2764-FE0F-200D-1F468", "1f9d1-2764"),
    ],
)
def test_concepts(code, concept):
    assert emoji._concept(code) == concept


def test_the_style_that_is_held_out_is_in_no_other_split(modules, tmp_path):
    out = tmp_path / "out"
    manifest = pictures.prepare(out, ("emoji",), {"emoji": str(modules)}, join=False)
    titles = {}
    for split in manifest.splits():
        source = open_source(f"pictures:{out}:{split}")
        titles[split] = [source[index].captions[0] for index in range(len(source))]
    counts = {split: len(found) for split, found in titles.items()}
    assert counts["style"] + counts["style_seen"] == len(EMOJI) + len(TONES)
    assert counts["test"] == 3 * counts["style"]  # the three other styles
    assert set(titles["style"]) == set(titles["test"])
    assert set(titles["style_seen"]) == set(titles["train"]) | set(titles["validation"])
    assert manifest.families["emoji_group"].names == ("food & drink", "objects")
    assert "CC-BY-SA" in manifest.licence


def test_packages_are_read_from_archives(tmp_path):
    with tarfile.open(tmp_path / "iconify-json-noto-1.2.9.tgz", "w:gz") as archive:
        member = tarfile.TarInfo("package/chars.json")
        member.size = 2
        archive.addfile(member, io.BytesIO(b"{}"))
    assert packages.read_node(tmp_path, "@iconify-json/noto", "chars.json") == b"{}"
    with pytest.raises(FileNotFoundError, match="no readable icons"):
        packages.read_node(tmp_path, "@iconify-json/noto", "icons.json")
    with pytest.raises(FileNotFoundError, match="npm pack"):
        packages.read_node(tmp_path, "@iconify-json/openmoji", "icons.json")
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        packages.find_node([], str(tmp_path / "nowhere"), tmp_path, 1)


def test_packages_of_strangers(tmp_path, monkeypatch):
    archive = tmp_path / "iconify-json-noto-1.2.9.tgz"
    with tarfile.open(archive, "w:gz") as file:
        for name in ("chars.json", "icons.json"):
            member = tarfile.TarInfo(f"package/{name}")
            member.size = 10_000
            file.addfile(member, io.BytesIO(bytes(10_000)))
    whole = archive.read_bytes()
    for number in range(100):
        archive.write_bytes(tampering.content(whole, random.Random(number)))
        try:
            assert packages.read_node(tmp_path, "@iconify-json/noto", "icons.json").strip(b"\0") == b""
        except FileNotFoundError as error:
            assert "no readable icons.json" in str(error)
    archive.write_bytes(whole)
    monkeypatch.setattr(packages, "_MAX_UNPACKED", 20_000)
    with pytest.raises(FileNotFoundError, match=r"no readable icons.json \(it unpacks to more than 20,000 bytes\)"):
        packages.read_node(tmp_path, "@iconify-json/noto", "icons.json")


def test_an_icon_is_written_to_no_other_folder(modules, tmp_path):
    package = modules / emoji.STYLES[0]
    icons = json.loads((package / "icons.json").read_text())
    outside = "../../" * 9 + str(tmp_path / "outside").lstrip("/")
    icons["icons"][outside] = {"body": CIRCLE.format(r=1, fill="red")}
    (package / "icons.json").write_text(json.dumps(icons))
    (package / "chars.json").write_text(json.dumps({"1f9d1": outside}))
    with pytest.raises(ValueError, match="no name of a file"), emoji.collect(str(modules)):
        pass
    assert not (tmp_path / "outside.svg").exists()
    (package / "chars.json").write_text(json.dumps({"1f9d1": "gone"}))
    with pytest.raises(ValueError, match=r"other packages than @iconify-json/noto@.*gone"), emoji.collect(str(modules)):
        pass


def test_without_npm_the_user_is_told_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(packages.shutil, "which", lambda _: None)
    with pytest.raises(FileNotFoundError, match=r"no npm to fetch a@1\. .* `npm pack a@1`"):
        packages.find_node(["a@1"], "", tmp_path, 1)
