import collections

import cv2
import numpy as np
import PIL.Image
import pytest

from mdc_jax.data.prepare import collection, near_duplicates
from mdc_jax.data.prepare.collection import Picture


def _drawing(seed: int) -> np.ndarray:
    """Five ellipses of random colours on white, 120 x 120."""
    rng = np.random.default_rng(seed)
    pixels = np.full((120, 120, 3), 255, np.uint8)
    for _ in range(5):
        centre, axes = rng.integers(25, 95, 2).tolist(), rng.integers(8, 25, 2).tolist()
        cv2.ellipse(pixels, centre, axes, int(rng.integers(180)), 0, 360, rng.integers(0, 220, 3).tolist(), -1)
    return pixels


@pytest.mark.parametrize("change", ["size", "margin", "noise", "brightness"])
def test_what_looks_the_same_is_found(change):
    def changed(pixels):
        if change == "size":
            return cv2.resize(pixels, (75, 75), interpolation=cv2.INTER_AREA)
        if change == "margin":
            return np.pad(pixels, ((30, 10), (0, 50), (0, 0)), constant_values=255)
        if change == "noise":
            return np.clip(pixels + np.random.default_rng(1).normal(0, 2, pixels.shape), 0, 255).astype(np.uint8)
        return np.where(pixels < 250, pixels + 10, pixels).astype(np.uint8)

    drawings = [_drawing(seed) for seed in range(40)]
    prints = [near_duplicates.fingerprint_pixels(pixels) for pixels in (*drawings, *map(changed, drawings))]
    found = near_duplicates.find(np.stack(prints))
    assert len(set(found) & {(i, 40 + i) for i in range(40)}) >= 36
    assert all(j - i == 40 for i, j in found)  # and nothing else


def test_other_colours_are_another_picture():
    pixels = _drawing(3)
    prints = np.stack([near_duplicates.fingerprint_pixels(p) for p in (pixels, pixels[..., ::-1].copy())])
    assert near_duplicates.find(prints) == []
    assert near_duplicates.find(prints, near_duplicates.MOST_BITS * 3, 255) == [(0, 1)]


def test_pairs_are_found_in_every_block(monkeypatch):
    monkeypatch.setattr(near_duplicates, "_BLOCK", 3)
    prints = np.stack([near_duplicates.fingerprint_pixels(_drawing(seed % 7)) for seed in range(14)])
    assert sorted(near_duplicates.find(prints)) == [(i, i + 7) for i in range(7)]


def _pictures(tmp_path):
    made = []
    for number in range(30):
        path = tmp_path / f"{number}.png"
        PIL.Image.fromarray(_drawing(number % 20)).save(path, compress_level=number // 20)
        made.append(Picture(path, path.name, (f"drawing {number}",), (("title", f"drawing {number}"),)))
    return made


def test_joined_pictures_share_a_split_and_fingerprints_are_kept(tmp_path):
    made = _pictures(tmp_path)
    calls = collections.Counter()

    def counting(function, items):
        for item in items:
            calls[item] += 1
            yield function(item)

    near = near_duplicates.pairs(made, tmp_path / "out", counting)
    assert sorted(near) == [(i, i + 20) for i in range(10)]
    assert near_duplicates.report(made, near)["between_groups"] == 10

    joined = near_duplicates.join(made, near)
    after = near_duplicates.report(joined, near)
    assert after["across_splits"] == 0 and after["groups"] == 20 and after["largest_group"] == 2
    groups = collection.group_by_concept(joined)
    assert all(groups[i] == groups[i + 20] for i in range(10))

    assert sum(calls.values()) == 30
    assert near_duplicates.pairs(made, tmp_path / "out", counting) == near
    assert sum(calls.values()) == 30  # nothing was computed again
    (tmp_path / "out" / near_duplicates.FILE).write_bytes(b"damaged")
    assert near_duplicates.pairs(made, tmp_path / "out", counting) == near
    assert sum(calls.values()) == 60


def test_a_damaged_picture_has_no_duplicates(tmp_path):
    made = _pictures(tmp_path)[:2]
    for picture in made:
        picture.path.write_bytes(b"nothing" + picture.name.encode())
    assert near_duplicates.pairs(made, tmp_path / "out") == []
