"""Sources by short spec: "NAME" or "NAME:REST", for example "scenes:train,size=48" or "pictures:DIR:train"."""

import importlib
import os
import re

from mdc_jax.config import ConfigError
from mdc_jax.config.parse import did_you_mean
from mdc_jax.data.sources import buckets
from mdc_jax.data.sources.base import Source

NAMES = (
    "aro",
    "array_record",
    "collage",
    "columns",
    "fake",
    "folder",
    "karpathy",
    "mix",
    "pictures",
    "scenes",
    "subset",
    "sugarcrepe",
    "tfds",
    "winoground",
)  # modules of this package that have `open`


def open_source(spec: str) -> Source:
    """Opens a source; see `mdc_jax/data/README.md` for the specs.

    Raises:
      ConfigError: the name is not known, the rest of the spec is wrong, the files are not there or cannot be read, or
        there is no record in them.
    """
    name, _, rest = spec.partition(":")
    if name not in NAMES:
        meant = f"; did you mean folder:{spec}?" if os.path.isdir(spec) else did_you_mean(name, NAMES)
        raise ConfigError(f'"{spec}": unknown source "{name}"{meant}')
    if elsewhere := re.search(r"\b(?!gs://)\w+://", rest):
        raise ConfigError(f'"{spec}": {elsewhere[0]} cannot be read: copy the data to this machine, or to gs://')
    try:
        source = importlib.import_module(f"mdc_jax.data.sources.{name}").open(rest)
    except (ValueError, OSError, *buckets.errors()) as error:
        raise ConfigError(f'"{spec}": {buckets.explained(error)}') from error
    if not len(source):
        raise ConfigError(f'"{spec}" has no records')
    return source
