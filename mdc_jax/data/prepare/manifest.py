"""What a prepared folder holds: `manifest.json`, the shards that it names, and the lengths beside each of them.

Beside NAME.arrayrecord lies NAME.lengths.npy: u16[records, columns], see `lengths.py`. The manifest holds what
`Manifest` lists, and says `complete` when all shards are there.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from etils import epath

from mdc_jax import files
from mdc_jax.data.prepare import example
from mdc_jax.data.sources.base import Family

_Path = TypeVar("_Path", pathlib.Path, epath.Path)

MANIFEST = "manifest.json"
FORMAT_VERSION = 1
SUFFIX = ".arrayrecord"
_LENGTHS_SUFFIX = ".lengths.npy"


@dataclasses.dataclass(frozen=True)
class Shard:
    """A finished file: what it was made from, what it holds, what was left out of it and why."""

    split: str
    inputs: str  # hash of everything that decides its content
    records: int
    bytes: int
    sha256: str
    dropped: Mapping[str, int]
    lengths_sha256: str = ""  # of the file of lengths
    named: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)  # some of the dropped ones, by reason


@dataclasses.dataclass
class Manifest:
    """What a prepared folder holds."""

    source: str
    licence: str
    attribution: str
    families: Mapping[str, Family]
    settings: Mapping[str, Any]
    dropped: dict[str, int] = dataclasses.field(default_factory=dict)  # by reason, before any shard was written
    named: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)  # some of these, by reason
    shards: dict[str, Shard] = dataclasses.field(default_factory=dict)  # by file name
    lengths: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # unit, columns and tokenizer
    parts: list[Mapping[str, Any]] = dataclasses.field(default_factory=list)  # of several sources: source, licence ...
    audit: dict[str, Any] = dataclasses.field(default_factory=dict)  # what was measured of the whole, by name
    complete: bool = False
    format_version: int = FORMAT_VERSION

    def splits(self) -> dict[str, list[str]]:
        """File names of every split, in order."""
        names: dict[str, list[str]] = {}
        for name, shard in sorted(self.shards.items()):
            names.setdefault(shard.split, []).append(name)
        return names

    def counts(self) -> dict[str, int]:
        """Records of every split."""
        return {split: sum(self.shards[name].records for name in names) for split, names in self.splits().items()}

    def all_dropped(self) -> dict[str, int]:
        """Everything left out, by reason."""
        total = dict(self.dropped)
        for shard in self.shards.values():
            for reason, count in shard.dropped.items():
                total[reason] = total.get(reason, 0) + count
        return dict(sorted(total.items()))

    def write(self, directory: pathlib.Path) -> None:
        content = dataclasses.asdict(self) | {"records": self.counts(), "all_dropped": self.all_dropped()}
        text = json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
        files.write(directory / MANIFEST, text)

    @classmethod
    def read(cls, directory: pathlib.Path | epath.Path) -> "Manifest":
        """Raises FileNotFoundError, or ValueError where the file is none of ours."""
        path = directory / MANIFEST
        try:
            content = json.loads(path.read_bytes())
            if content["format_version"] != FORMAT_VERSION:
                kind = _Newer if content["format_version"] > FORMAT_VERSION else ValueError
                raise kind(f"format_version {content['format_version']}, expected {FORMAT_VERSION}")
            content = {"lengths": {}, "parts": [], "audit": {}, "named": {}} | content  # later than the first manifests
            fields = {field.name: content[field.name] for field in dataclasses.fields(cls)}
            fields["families"] = {name: _read_family(family) for name, family in content["families"].items()}
            fields["shards"] = {name: read_shard(name, shard) for name, shard in content["shards"].items()}
            lengths = content["lengths"]
            columns = lengths["columns"] if lengths else [""]
            if not isinstance(lengths, dict) or not columns or not all(isinstance(name, str) for name in columns):
                raise ValueError(f"lengths are {lengths}")
            return cls(**fields)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            fix = "update mdc_jax" if isinstance(error, _Newer) else "remove it and prepare the data again"
            raise ValueError(f"{path} is no manifest of prepared records ({error}); {fix}") from error


class _Newer(ValueError):
    """The data is fine, and this code too old for it."""


def _read_family(content: dict[str, Any]) -> Family:
    """Raises ValueError, KeyError or TypeError for what no family is."""
    family = Family(**content | {"names": tuple(content["names"])})
    if family.kind not in ("class", "presence") or not all(isinstance(name, str) for name in family.names):
        raise ValueError(f"a family of labels is {family}")
    return family


def read_shard(name: str, content: dict[str, Any]) -> Shard:
    """Raises ValueError or TypeError for what no shard is: manifests may come from strangers.

    Their names lead nowhere else, and no shard has more records than its bytes can hold.
    """
    shard = Shard(**content)
    if pathlib.PurePath(name).name != name or name == "..":
        raise ValueError(f"a shard is called {name}")
    counts = (shard.records, shard.bytes, *shard.dropped.values())
    texts = (shard.split, shard.inputs, shard.sha256, shard.lengths_sha256)
    if not all(type(count) is int and count >= 0 for count in counts) or not all(isinstance(x, str) for x in texts):
        raise ValueError(f"{name} is {shard}")
    if shard.records * example.SMALLEST > shard.bytes:
        raise ValueError(f"{name} has {shard.records} records in {shard.bytes} bytes")
    return shard


def lengths_path(path: _Path) -> _Path:
    """The file of lengths that lies beside a shard."""
    return path.with_name(path.name.removesuffix(SUFFIX) + _LENGTHS_SUFFIX)
