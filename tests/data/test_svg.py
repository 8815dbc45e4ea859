"""Drawings of strangers: what is drawn is read from the drawing alone, in the memory of a picture."""

import base64
import gzip
import xml.etree.ElementTree

import PIL.Image
import pytest

from mdc_jax.data import images
from mdc_jax.data.prepare import svg
from mdc_jax.data.sources.base import BadRecord
from tests import tampering

SVG = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:x="http://www.w3.org/1999/xlink" width="{}" height="{}">{}</svg>'
DISC = '<circle cx="1" cy="1" r="1"/>'


def test_a_drawing_takes_memory_by_its_picture_alone(tmp_path):
    path = tmp_path / "drawing.svg"
    before = tampering.peak_memory()
    for width, height in ((1, 10**6), (10**6, 1)):
        path.write_text(SVG.format(width, height, '<rect width="50%" height="50%"/>'))
        assert max(images.decode(svg.render(path, 64)).shape) <= 16 * 64
    path.write_text(SVG.format(2, 3, DISC))
    assert images.decode(svg.render(path, 64)).shape == (96, 64, 3)
    start, end = SVG.format(2, 2, f"{DISC}\n").split("\n")
    with gzip.open(path, "wt", compresslevel=1) as packed:
        packed.writelines([start, *[" " * 2**20] * 2**8, end])
    with pytest.raises(BadRecord, match="damaged SVG"):
        svg.render(path, 64)
    assert tampering.peak_memory() < before + 2**27


def test_a_drawing_shows_no_files_from_elsewhere(tmp_path):
    path, inside = tmp_path / "set" / "drawing.svg", tmp_path / "set" / "inside.png"
    path.parent.mkdir()
    PIL.Image.new("RGB", (3, 3), "red").save(inside)
    (tmp_path / "outside.png").write_bytes(inside.read_bytes())
    (tmp_path / "set" / "link.png").symlink_to(tmp_path / "outside.png")
    (tmp_path / "set" / "zeros.png").symlink_to("/dev/zero")
    within = f"data:image/png;base64,{base64.b64encode(inside.read_bytes()).decode()}"

    def render(reference):
        path.write_text(SVG.format(4, 4, f'<image x:href="{reference}" width="3" height="3"/>{DISC}'))
        return svg.render(path, 8)

    for reference in (within, "inside.png", "nowhere.png"):
        assert images.decode(render(reference)).shape == (8, 8, 3)
    names = ("../outside.png", "link.png", "zeros.png", "/dev/zero", "file:///dev/zero", str(tmp_path / "outside.png"))
    for reference in (*names, "data:image/svg+xml;base64,AAAA", "", ".."):
        with pytest.raises(BadRecord, match="drawing of other files"):
            render(reference)
    assert images.decode(render("a" * 300)).shape == (8, 8, 3)  # no file can be called so
    for damaged in (within[:-40], within[:-41], f"{within}\N{LATIN SMALL LETTER E WITH ACUTE}"):
        with pytest.raises(BadRecord):
            render(damaged)


@pytest.mark.parametrize(
    "content",
    [
        f"{'<g>' * 1_000}{DISC}{'</g>' * 1_000}",
        f'<g id="0">{DISC}</g>' + "".join(f'<g id="{n}"><use x:href="#{n - 1}"/></g>' for n in range(1, 300)),
        f'<g id="a">{DISC}<use href="#a"/></g>',
    ],
)
def test_a_drawing_of_deep_groups_does_not_end_the_process(tmp_path, content):
    path = tmp_path / "drawing.svg"
    path.write_text(SVG.format(4, 4, content))
    with pytest.raises(BadRecord, match="deep drawing"):
        svg.render(path, 8)


def test_groups_that_are_used_often_are_looked_at_once():
    often = "".join(f'<g id="{n}">{f"""<use href="#{n - 1}"/>""" * 50}</g>' for n in range(1, 20))
    svg._check_depth(xml.etree.ElementTree.fromstring(SVG.format(4, 4, f'<g id="0">{DISC}</g>{often}')))
