"""The contract of a data source: random access to images with captions and labels."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np


class BadRecord(ValueError):
    """The bytes of a record are damaged; `reason` is one of a few short texts, to be counted, `name` says which it is.

    Reading the same record again gives the same error. What another attempt may cure (a network, a
    disk) is an OSError instead.
    """

    def __init__(self, reason: str, name: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.name = name


@dataclasses.dataclass(frozen=True)
class Family:
    """A family of labels that a linear probe predicts together.

    `kind` "presence": the label is u8[len(names)], one yes or no for each name.
    `kind` "class": the label is one integer below len(names); -1 where it does not apply.
    `bound` families say what belongs together or where it stands, which a mean over image
    tokens cannot tell; they are probed on flattened tokens, in a table of their own.
    """

    kind: str
    names: tuple[str, ...]
    bound: bool = False


@dataclasses.dataclass(frozen=True)
class Record:
    """One image (encoded bytes, or u8[H, W, 3] where it was drawn) with its captions and labels.

    `columns` are other texts of the image by name, as a second describer's. `weights`, where there are any, say how
    often training draws each caption, and sum to 1; without them every caption is as likely. `published_id` is the
    number that the image has where it was published, as in COCO, whose servers ask for it.
    """

    image: bytes | np.ndarray
    captions: tuple[str, ...]
    labels: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    columns: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    weights: tuple[float, ...] = ()
    published_id: int | None = None


def number(value: object) -> int | None:
    """A `published_id` of what a file holds in its place: anything but a whole number is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


@dataclasses.dataclass(frozen=True)
class Claim:
    """One statement of a caption: its kind, the words [start, end) that make it, and whether it holds."""

    kind: str
    start: int
    end: int
    right: bool


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a parser finds in a caption, held against an image."""

    grammatical: bool
    claims: tuple[Claim, ...]
    repeated: bool  # an object of the image is named twice
    hallucinated: int  # objects named that the image does not have

    @property
    def right(self) -> bool:
        """Grammatical, and every claim holds."""
        return self.grammatical and all(claim.right for claim in self.claims)


@dataclasses.dataclass(frozen=True)
class Foil:
    """A test of what a model makes of images and captions that are hard to tell apart.

    Of two images, `captions[i]` is true of `images[i]` and false of the other one. Of a single image, `captions[0]` is
    true and all others false. Images are as in a `Record`. Where foils have a `group`, as a relation, the mean over
    groups is reported too.
    """

    kind: str
    images: tuple[bytes | np.ndarray, ...]
    captions: tuple[str, ...]
    group: str = ""


OPTIONAL = ("captions", "check", "claims", "foils", "length")


def check_index(source: "Source", index: int) -> None:
    """Raises IndexError where a source has no record `index`; below 0 there is none, either."""
    if not 0 <= index < len(source):
        raise IndexError(f"{source.spec} has {len(source)} records, no {index}")


class Source(Protocol):
    """Reading the same index twice gives the same record, or the same BadRecord; nothing is filtered.

    A source may offer more (OPTIONAL): where they cost less than the record, `captions(index)` and `length(index,
    tokenizer)`, the tokens of the longest of them; where captions can be parsed, `check(index, caption) -> Verdict` and
    `claims(index) -> Mapping[str, int]` (how many claims of each kind the image's own caption makes); with a vocabulary
    of its own, `word_kind(word) -> str` (see `mdc_jax/data/leakage.py`). With foils, `foil_kinds: tuple[str, ...]` and
    `foils(kind, index) -> Foil`, which depends on nothing but these two, need not be about record `index`, and raises
    IndexError beyond the last foil of a kind. `unsafe` says which augmentations can make its captions false, and why,
    see `caption_safety.py`. A mixture has `parts`, see `plan.py`.
    """

    spec: str
    fingerprint: str  # hash of the manifest or of the definition: changes when the data does
    families: Mapping[str, Family]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record: ...


def captions_of(source: Source, index: int) -> Sequence[str]:
    """The captions of a record, without its image where the source has them at less cost; raises as the record does."""
    return source.captions(index) if hasattr(source, "captions") else source[index].captions
