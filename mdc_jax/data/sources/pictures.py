"""Pictures that `mdc_jax.data.prepare.pictures` wrote, "pictures:DIR:SPLIT": records, and people emoji as foils.

A foil is two drawings of one style whose captions differ in role, gender or skin tone alone: "woman cook: dark skin
tone" and "man cook: dark skin tone".
"""

import collections
import functools
import itertools
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from mdc_jax.data import plan
from mdc_jax.data.sources import array_record
from mdc_jax.data.sources.base import BadRecord, Foil

_NAMES = "emojibase-data"  # part of the manifest's source where there are emoji
_FOLDER = "emoji"  # of the files, and below it one for each style
# "Person" and "child" may be true of drawings of a man or a girl, so that they stand in no pair of genders.
_GENDERS = ({"man", "woman"}, {"boy", "girl"})
_PEOPLE = frozenset(("man", "woman", "person", "boy", "girl", "child"))
_CAPTION = re.compile(r"(.+): (light|medium-light|medium|medium-dark|dark) skin tone")


class _Person(NamedTuple):
    """What an emoji shows: in "deaf man: dark skin tone" the role is "deaf _"."""

    style: str
    role: str
    gender: str
    skin_tone: str


_FIELDS = {f"replace_{field}": field for field in ("role", "gender", "skin_tone")}


class PicturesSource(array_record.ArrayRecordSource):
    """See the module."""

    @property
    def foil_kinds(self) -> tuple[str, ...]:
        """See `Source`; none where there are no emoji."""
        return tuple(_FIELDS) if _NAMES in self._manifest.source else ()

    def foils(self, kind: str, index: int) -> Foil:
        """Foil `index` of a kind, in a pseudorandom order; raises IndexError beyond the last pair of the split."""
        pairs = self.foil_pairs[kind]
        if not 0 <= index < len(pairs):
            raise IndexError(f"foil {index} of {self.spec!r}, which has {len(pairs)} of kind {kind}")
        first, second = (self[record] for record in pairs[plan.sample(index, len(pairs))])
        return Foil(kind, (first.image, second.image), (first.captions[0], second.captions[0]))

    @functools.cached_property
    def foil_pairs(self) -> Mapping[str, list[tuple[int, int]]]:
        """Records whose captions differ in one thing and have as many words, by kind; reads the whole split once."""
        people = list(self._people())
        found = {}
        for kind, field in _FIELDS.items():
            alike: dict[_Person, list[tuple[int, _Person]]] = collections.defaultdict(list)
            for record, person in people:
                alike[person._replace(**{field: ""})].append((record, person))
            found[kind] = [
                (record, other_record)
                for same in alike.values()
                for (record, person), (other_record, other) in itertools.combinations(same, 2)
                if _differ(field, person, other)
            ]
        return found

    def _people(self) -> Iterator[tuple[int, _Person]]:
        """The emoji of one person with a skin tone, with their records."""
        seen = set()
        for record in range(len(self)):
            try:
                example = self.example(record)
            except BadRecord:
                continue
            folder, _, file = example.about.get("file", "").partition("/")
            match = _CAPTION.fullmatch(example.captions[0]) if folder == _FOLDER and example.captions else None
            if match is None:
                continue
            words = match[1].split()
            named = _PEOPLE.intersection(words)
            if len(named) == 1:
                role = " ".join("_" if word in named else word for word in words)
                person = _Person(file.partition("/")[0], role, *named, match[2])
                if person not in seen:
                    seen.add(person)
                    yield record, person


def _differ(field: str, first: _Person, second: _Person) -> bool:
    """Whether the caption of either is false of the other, and no longer."""
    if field == "gender":
        return {first.gender, second.gender} in _GENDERS
    if field == "role":  # "_" alone is true of every role
        lengths = {len(person.role.split()) for person in (first, second)}
        return first.role != second.role and len(lengths) == 1 and lengths != {1}
    return first.skin_tone != second.skin_tone


def open(rest: str) -> PicturesSource:
    """See `array_record.open`."""
    return array_record.open(rest, PicturesSource)
