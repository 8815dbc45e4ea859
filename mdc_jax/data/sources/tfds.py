"""TensorFlow Datasets, read without TensorFlow: "tfds:NAME[:SPLIT]" or "tfds:DIR[:SPLIT]".

    tfds:coco_captions:val    tfds:imagenet2012:train[:10%]    tfds:gs://bucket/my_set/1.0.0:train

The data set lies prepared as ArrayRecord in DIR, or under its name in TFDS_DATA_DIR (~/tensorflow_datasets).

Of its features, the image is the one called "image", else the first in the order of names; every text, and every
sequence of texts, is a column of its name ("columns:" chooses among them); the captions are the first whose name says
so. Class labels are label families.
"""

import contextlib
import functools
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core import naming, read_only_builder

from mdc_jax.data.sources.array_record import DAMAGE
from mdc_jax.data.sources.base import BadRecord, Family, Record, check_index

_SPEC = re.compile(
    r"(?P<name>(?:gs://)?[^:]+(?::[0-9*]+\.[0-9*]+\.[0-9*]+)?)(?::(?P<split>.+))?"
)  # a version has colons too
_IMAGE = "image"
_CAPTIONS = ("caption", "text", "description", "title")  # words in a feature's name, the best first


class TfdsSource:
    """See the module."""

    def __init__(self, spec: str, builder: tfds.core.DatasetBuilder, split: str) -> None:
        features = dict(sorted(builder.info.features.items()))  # from files they come in another order each time
        pictures = [name for name, feature in features.items() if isinstance(feature, tfds.features.Image)]
        if not pictures:
            raise ValueError(f"{builder.info.full_name} has no image among its features {', '.join(features)}")
        self.spec = spec
        self.families = {
            name: Family("class", tuple(feature.names))
            for name, feature in features.items()
            if isinstance(feature, tfds.features.ClassLabel)
        }
        self._image = _IMAGE if _IMAGE in pictures else pictures[0]
        self._texts = dict(sorted(_texts(builder.info.features)))
        self._captions = _best(self._texts)
        # Encoded images: they are decoded as all others are.
        self._open = functools.partial(
            builder.as_data_source, split, decoders={self._image: tfds.decode.SkipDecoding()}
        )
        self._records = self._open()
        info = builder.info
        definition = json.dumps(info.features.to_json(), sort_keys=True)
        content = info.full_name, split, len(self._records), int(info.dataset_size), definition
        self.fingerprint = hashlib.sha256(repr(content).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        """Record `index`; raises BadRecord for damaged bytes, OSError for what could not be read."""
        check_index(self, index)
        try:
            example = self._records[index]
        except RuntimeError as error:
            if DAMAGE in str(error):
                raise BadRecord("damaged shard") from error
            # Readers that could not open their files never try again, also where these came back. What opening raises
            # where they did not is raised below; the next record tries once more.
            with contextlib.suppress(OSError, AssertionError, NotImplementedError):
                self._records = self._open()
            raise OSError(f"{self.spec}: {error}") from error
        columns = {name: _read(example, path) for name, path in self._texts.items()}
        labels = {name: np.int32(example[name]) for name in self.families}
        return Record(example[self._image], columns.get(self._captions, ()), labels, columns)


def open(rest: str) -> TfdsSource:
    """Opens "NAME[:SPLIT]" or "DIR[:SPLIT]"; the split is "train" where none is named.

    Raises:
      FileNotFoundError: the data set is not there, or not as ArrayRecord; says how to prepare it.
      ValueError: there is no such data set or split, or it has no images.
    """
    match = _SPEC.fullmatch(rest)
    if not match:
        raise ValueError("a data set of TFDS is written tfds:NAME:SPLIT, as in tfds:coco_captions:val")
    name, split = match["name"], match["split"] or "train"
    try:
        directory = epath.Path(name)
        if directory.exists() or name.startswith(("/", ".", "gs://")):
            builder = tfds.builder_from_directory(directory)
        else:
            builder = _by_name(name)
        return TfdsSource(f"tfds:{rest}", builder, split)
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(f"TFDS knows no data set {name!r}, and there is no such folder") from error
    except (OSError, AssertionError, NotImplementedError, ImportError) as error:
        raise FileNotFoundError(
            f"{name} is not prepared as ArrayRecord. By `tfds.builder({name!r}, file_format='array_record')."
            f"download_and_prepare()` it can be; TFDS says: {str(error).partition(chr(10))[0]}"
        ) from error


def _by_name(name: str) -> tfds.core.DatasetBuilder:
    """A data set by its files, since the code of many, as of coco_captions, needs TensorFlow; else by its code."""
    bare, given = naming.parse_builder_name_kwargs(name)
    try:
        return read_only_builder.builder_from_files(str(bare), **given)
    except tfds.core.DatasetNotFoundError:
        return tfds.builder(name)


def _texts(feature: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(name, path) of every text within a feature; sequences make no difference."""
    while isinstance(feature, tfds.features.Sequence):
        feature = feature.feature
    if isinstance(feature, tfds.features.Text):
        yield "/".join(path), path
    elif isinstance(feature, tfds.features.FeaturesDict):
        for name, inner in feature.items():
            yield from _texts(inner, (*path, name))


def _best(names: Mapping[str, Any]) -> str | None:
    found = (name for word in _CAPTIONS for name in names if word in name.lower())
    return next(found, None)


def _read(example: Any, path: tuple[str, ...]) -> tuple[str, ...]:
    for name in path:
        example = example[name]
    texts = example if isinstance(example, list | tuple | np.ndarray) else [example]
    try:
        return tuple(text.decode() for text in texts)
    except UnicodeDecodeError as error:
        raise BadRecord("captions not UTF-8") from error
