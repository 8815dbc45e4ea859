"""Drawings of the real layout: svg/ with metadata, png/ with pixels."""

import pathlib

import PIL.Image
import pytest

from mdc_jax.data import images
from mdc_jax.data.prepare import openclipart, pictures
from mdc_jax.data.sources import open_source

SVG = """<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:cc="http://web.resource.org/cc/" xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<metadata><rdf:RDF><cc:Work rdf:about=""><dc:title>{title}</dc:title><dc:description>{description}</dc:description>
<dc:creator><cc:Agent><dc:title>A. Painter</dc:title></cc:Agent></dc:creator></cc:Work></rdf:RDF></metadata>
<rect width="20" height="30" fill="red"/></svg>"""


def _draw(root: pathlib.Path, name: str, title: str, description: str = "", size=(40, 30)) -> None:
    for part, suffix in (("svg", ".svg"), ("png", ".png")):
        path = (root / part / name).with_suffix(suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        if part == "svg":
            path.write_text(SVG.format(title=title, description=description))
        else:
            picture = PIL.Image.new("1", size) if size[0] > 1000 else PIL.Image.new("RGBA", size, (0, 99, 0, 255))
            picture.save(path)


@pytest.fixture
def library(tmp_path):
    root = tmp_path / "openclipart"
    for number in range(13):
        _draw(root, f"computer/icons/{number}", "Part of a collection")
    _draw(root, "animals/birds/owl", "Owl on Branch_01", "An owl that sits on a branch.")
    _draw(root, "animals/cow", "Clipart by Nicu Buculei - cow12", "cow")
    _draw(root, "signs_and_symbols/flags/europe/x", "Seychelles", "someone@somewhere.org")
    _draw(root, "food/salami", "Salami", size=(10_000, 9_000))
    _draw(root, "food/none", "")
    _draw(root, "food/number", "123")
    _draw(root, "food/lost", "lost")
    (root / "png/food/lost.png").unlink()
    (root / "svg/food/damaged.svg").write_text("<svg")
    return root


def test_titles_and_descriptions_are_cleaned(library):
    with openclipart.collect(str(library)) as found:
        by_title = {picture.title: picture for picture in found.pictures}
        assert found.dropped == {
            "title used more than 12 times": 13,
            "no title": 2,
            "no PNG": 1,
            "damaged metadata": 1,
        }
        assert by_title.keys() == {"Owl on Branch", "cow", "Seychelles", "Salami"}
        owl = by_title["Owl on Branch"]
        assert owl.captions == ("Owl on Branch", "An owl that sits on a branch.")
        assert owl.labels == {"openclipart_folder": "animals"} and owl.kind == "nature"
        assert by_title["cow"].captions == ("cow",)  # the description says the same
        assert by_title["Seychelles"].captions == ("Seychelles",) and by_title["Seychelles"].kind == "flags"


def test_pixels_are_those_of_the_png_unless_it_is_too_large(library, tmp_path):
    out = tmp_path / "out"
    manifest = pictures.prepare(out, ("openclipart",), {"openclipart": str(library)})
    assert "public domain" in manifest.licence and sum(manifest.counts().values()) == 4
    found = {}
    for split in manifest.splits():
        source = open_source(f"pictures:{out}:{split}")
        found |= {source[i].captions[0]: images.decode(source[i].image) for i in range(len(source))}
    assert abs(found["cow"][15, 20].astype(int) - (0, 99, 0)).max() < 6
    assert abs(found["Salami"][128, 20].astype(int) - (255, 0, 0)).max() < 6  # the SVG of a PNG with 90 million pixels


def test_a_folder_without_drawings_is_explained(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no drawings"), openclipart.collect(str(tmp_path)):
        pass
