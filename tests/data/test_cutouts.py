import io

import numpy as np
import PIL.Image
import pytest

from mdc_jax.data.prepare import cutouts
from mdc_jax.data.prepare.collection import Picture
from mdc_jax.data.sources.base import BadRecord


def _save(path, alpha, pixels=(200, 30, 30)):
    picture = np.zeros((*alpha.shape, 4), np.uint8)
    picture[..., :3], picture[..., 3] = pixels, alpha
    PIL.Image.fromarray(picture).save(path)
    return path


def test_a_cut_out_is_what_is_visible(tmp_path):
    alpha = np.zeros((300, 400), np.uint8)
    alpha[50:250, 100:200] = 255
    with PIL.Image.open(io.BytesIO(cutouts.cut_out(_save(tmp_path / "a.png", alpha)))) as picture:
        assert picture.size == (64, 128)
        pixels = np.asarray(picture.convert("RGBA"))
    assert (pixels[8:-8, 8:-8, 3] > 250).all()
    assert np.abs(pixels[64, 32, :3].astype(int) - (200, 30, 30)).max() < 8


def test_a_drawing_keeps_its_transparency(tmp_path):
    (tmp_path / "a.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"><circle cx="5" cy="5" r="4"/></svg>'
    )
    with PIL.Image.open(io.BytesIO(cutouts.cut_out(tmp_path / "a.svg"))) as picture:
        alpha = np.asarray(picture.convert("RGBA"))[..., 3]
    assert alpha[0, 0] == 0 and alpha[alpha.shape[0] // 2, alpha.shape[1] // 2] == 255


@pytest.mark.parametrize(
    ("rows", "columns", "reason"),
    [
        (slice(0, 0), slice(0, 0), "nothing is visible"),
        (slice(0, 100), slice(0, 100), "no transparency"),
        (slice(0, 100), slice(0, 33), "too long and thin"),
        (slice(0, 20), slice(0, 20), "too small"),
        (slice(0, 100, 4), slice(0, 100), "fills too little of its box"),
    ],
)
def test_what_is_no_cut_out_is_refused_by_reason(tmp_path, rows, columns, reason):
    alpha = np.zeros((100, 100), np.uint8)
    alpha[rows, columns] = 255
    path = _save(tmp_path / "a.png", alpha)
    with pytest.raises(BadRecord, match=reason):
        cutouts.cut_out(path)
    if reason == "no transparency":
        assert cutouts.cut_out(path, may_be_opaque=True)


def _picture(title, kind):
    return Picture(None, title, (title, "another caption"), (("title", title),), {"folder": "x"}, title, kind)


def test_kinds_have_titles_of_every_length_in_every_split():
    def some(kind, lengths, number=3):
        letters = "abcdefgh"[:number]
        return [_picture(" ".join(f"{kind}{letter}" for _ in range(n)), kind) for n in lengths for letter in letters]

    full = {split: some("food", (1, 2)) + some("nature", (1, 2)) for split in ("train", "validation", "test")}
    full["train"] += [*some("flags", (2,)), _picture("The Owl.", "nature"), _picture("an owl on a branch", "nature")]
    full["train"] += [_picture("large owl", "nature"), _picture("owl 2", "nature"), _picture("owl", "")]
    full["style"] = some("food", (1,))
    chosen, kinds, dropped = cutouts.choose(full)
    assert kinds == ("food", "nature")  # not flags, which has no title of one word
    assert dropped == {"no kind": 1, "no title of one or two plain words": 3, "kind with too few titles": 3}
    assert {picture.kind for picture in chosen["train"]} == {"food", "nature"}
    owls = [picture for picture in chosen["train"] if "owl" in picture.title]
    assert [(picture.title, picture.captions, picture.labels) for picture in owls] == [
        ("owl", ("owl",), {"kind": "nature"})
    ]
    full["test"] = full["test"][:8]  # two titles of a length are too few
    assert cutouts.choose(full).kinds == ("food",)
