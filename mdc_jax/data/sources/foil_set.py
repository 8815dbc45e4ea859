"""What sets of foils share that their authors publish as files of captions beside a folder of images.

`sugarcrepe.py`, `aro.py` and `winoground.py` read their formats; the evaluator `compositionality` reads them all alike.
"""

import hashlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mdc_jax.data import images, plan
from mdc_jax.data.sources import published
from mdc_jax.data.sources.base import BadRecord, Family, Foil, Record, check_index


class Box(NamedTuple):
    """The part of an image that is seen, in pixels."""

    left: int
    top: int
    width: int
    height: int


class Case(NamedTuple):
    """A foil whose images are not read yet; see `sources.base.Foil`."""

    files: tuple[pathlib.Path, ...]
    captions: tuple[str, ...]
    box: Box | None = None
    group: str = ""


class FoilSet:
    """Foils by kind. As records, every image of a case has its true caption."""

    families: Mapping[str, Family] = {}

    def __init__(self, spec: str, cases: Mapping[str, Sequence[Case]]) -> None:
        """Raises FileNotFoundError where an image is not there: a part of a set is another set.

        Raises ValueError where a kind has no case, or a caption is no text.
        """
        for kind, some in cases.items():
            if not some:
                raise ValueError(f"{spec} has no foil of the kind {kind}: its file is empty, or of another format")
            for case in some:
                if not all(isinstance(caption, str) and caption for caption in case.captions):
                    raise ValueError(f"{spec} has a foil of the kind {kind} whose captions are {case.captions}")
        self.spec = spec
        self.foil_kinds = tuple(cases)
        self._cases = cases
        self._records = [(case, side) for some in cases.values() for case in some for side in range(len(case.files))]
        published.check_files({file for case, _ in self._records for file in case.files})
        content = [
            (kind, [file.name for file in case.files], *case[1:]) for kind, some in cases.items() for case in some
        ]
        self.fingerprint = hashlib.sha256(repr(content).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        check_index(self, index)
        case, side = self._records[index]
        return Record(_image(case, side), (case.captions[side],))

    def captions(self, index: int) -> tuple[str, ...]:
        """The true caption of record `index`, whose image is not read."""
        case, side = self._records[index]
        return (case.captions[side],)

    def foils(self, kind: str, index: int) -> Foil:
        """Foil `index` of a kind, in a pseudorandom order; raises IndexError beyond the last one."""
        cases = self._cases[kind]
        if not 0 <= index < len(cases):
            raise IndexError(f"foil {index} of {self.spec!r}, which has {len(cases)} of kind {kind}")
        case = cases[plan.sample(index, len(cases))]
        return Foil(kind, tuple(_image(case, side) for side in range(len(case.files))), case.captions, case.group)


def _image(case: Case, side: int) -> bytes | np.ndarray:
    content = images.read(case.files[side])
    if case.box is None:
        return content
    left, top, width, height = case.box
    pixels = images.decode(content)[max(top, 0) : top + height, max(left, 0) : left + width]
    if not pixels.size:
        raise BadRecord("box outside the image", str(case.files[side]))
    return pixels
