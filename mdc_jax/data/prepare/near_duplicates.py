"""Pictures that look the same: a perceptual hash of the outline and a coarse comparison of colours.

Shapes: N pictures.
"""

import collections
import dataclasses
import pathlib
from collections.abc import Iterable, Sequence

import cv2
import numpy as np
import tqdm

from mdc_jax import files
from mdc_jax.data import images
from mdc_jax.data.prepare import collection, svg
from mdc_jax.data.prepare.collection import Map, Picture
from mdc_jax.data.sources.base import BadRecord

_VERSION = 1  # of the fingerprint: to be raised when it is computed in another way
FILE = f"fingerprints-{_VERSION}.npy"  # beside the pictures, so that a second run need not compute them again
# Chosen on 19,281 pictures: looser limits join what only resembles each other (faces, clocks, flags).
MOST_BITS = 32
MOST_LEVELS = 12.0

_SIDE = 32  # pixels from which the hash is computed
_WAVES = 16  # lowest frequencies of the cosine transform, each way; a bit each
_COLOURS = 8  # pixels a side of the coarse picture
_BITS = _WAVES * _WAVES
BYTES = _BITS // 8 + 3 * _COLOURS * _COLOURS  # of a fingerprint
_BLOCK = 1024  # rows compared at a time
_KEY = 32  # bytes of a SHA-256
_SAVE_EVERY = 1_000  # pictures


def fingerprint(path: pathlib.Path) -> np.ndarray | None:
    """u8[BYTES] of a picture file; None where it cannot be decoded."""
    try:
        pixels = images.decode(svg.picture(path, 2 * _SIDE))
    except BadRecord:
        return None
    return fingerprint_pixels(pixels)


def fingerprint_pixels(pixels: np.ndarray) -> np.ndarray:
    """u8[BYTES] of u8[H, W, 3] on white: which low frequencies are above their median, and a coarse picture."""
    inked = np.argwhere(pixels.min(2) < collection.WHITE)  # without margins
    if len(inked):
        (top, left), (bottom, right) = inked.min(0), inked.max(0) + 1
        pixels = pixels[top:bottom, left:right]
    grey = cv2.resize(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    waves = cv2.dct(grey.astype(np.float32))[:_WAVES, :_WAVES].ravel()
    coarse = cv2.resize(pixels, (_COLOURS, _COLOURS), interpolation=cv2.INTER_AREA)
    return np.concatenate((np.packbits(waves > np.median(waves[1:])), coarse.ravel()))


def find(
    fingerprints: np.ndarray, most_bits: int = MOST_BITS, most_levels: float = MOST_LEVELS
) -> list[tuple[int, int]]:
    """All pairs (i, j), i < j, of near duplicates among the fingerprints u8[N, BYTES].

    Args:
      fingerprints: of the pictures.
      most_bits: of the 256 of the hash that may differ.
      most_levels: grey levels by which the coarse pictures may differ on average.
    """
    bits = np.unpackbits(fingerprints[:, : _BITS // 8], axis=1).astype(np.float32) * 2 - 1
    coarse = fingerprints[:, _BITS // 8 :].astype(np.int16)
    pairs = []
    for start in range(0, len(bits), _BLOCK):
        differ = (_BITS - bits[start : start + _BLOCK] @ bits[start:].T) / 2
        first, second = np.nonzero(np.triu(differ <= most_bits, 1))
        first, second = first + start, second + start
        near = np.abs(coarse[first] - coarse[second]).mean(1) <= most_levels
        pairs += zip(first[near].tolist(), second[near].tolist(), strict=True)
    return pairs


def join(pictures: Sequence[Picture], near: Iterable[tuple[int, int]]) -> list[Picture]:
    """The pictures, where near duplicates share a concept, and so a split."""
    concepts = [dict.fromkeys(picture.concepts) for picture in pictures]
    for i, j in near:
        concepts[i].setdefault(pictures[j].concepts[0])
    return [dataclasses.replace(picture, concepts=tuple(own)) for picture, own in zip(pictures, concepts, strict=True)]


def report(pictures: Sequence[Picture], near: Sequence[tuple[int, int]]) -> dict[str, int]:
    """How many pairs of near duplicates there are, of them in different groups of concepts, and in different splits."""
    groups = collection.group_by_concept(pictures)
    sides = [collection.side_of(group) for group in groups]
    return {
        "pairs": len(near),
        "between_groups": sum(groups[i] != groups[j] for i, j in near),
        "across_splits": sum(sides[i] != sides[j] for i, j in near),
        "groups": len(set(groups)),
        "largest_group": max(collections.Counter(groups).values()),
    }


def pairs(pictures: Sequence[Picture], out: pathlib.Path, map_: Map = map) -> list[tuple[int, int]]:
    """All pairs of near duplicates among pictures; their fingerprints are kept in a file in `out`."""
    keys = [collection.content_hash(picture.path) for picture in pictures]
    known = _load(out / FILE)
    missing = {key: picture.path for key, picture in zip(keys, pictures, strict=True) if key not in known}
    with tqdm.tqdm(total=len(missing), unit=" compared", disable=not missing) as bar:
        for count, (key, found) in enumerate(zip(missing, map_(fingerprint, missing.values()), strict=True), 1):
            known[key] = np.zeros(BYTES, np.uint8) if found is None else found
            bar.update()
            if count % _SAVE_EVERY == 0:
                _save(out / FILE, known)
    known = {key: known[key] for key in keys}
    _save(out / FILE, known)
    usable = [index for index, key in enumerate(keys) if known[key].any()]
    if not usable:
        return []
    return [(usable[i], usable[j]) for i, j in find(np.stack([known[keys[index]] for index in usable]))]


def _load(path: pathlib.Path) -> dict[bytes, np.ndarray]:
    """Fingerprints by the hash of their file; none where there is no such file, or it is of another version."""
    try:
        rows = np.load(path)
    except (OSError, ValueError, EOFError):
        return {}
    if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != _KEY + BYTES:
        return {}
    return {row[:_KEY].tobytes(): row[_KEY:] for row in rows}


def _save(path: pathlib.Path, known: dict[bytes, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [np.concatenate((np.frombuffer(key, np.uint8), known[key])) for key in sorted(known)]
    with files.whole(path) as unfinished, unfinished.open("wb") as file:
        np.save(file, np.stack(rows))
