"""The rows of a table of probes, and the features that they need, each split read once.

Shapes: B examples of a batch, N of a split, T image tokens, D width, L blocks.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mdc_jax.config import sections
from mdc_jax.data.sources import open_source
from mdc_jax.evaluators import feature_cache, recipes
from mdc_jax.evaluators.base import GlobalBatch, Subject, host_rows
from mdc_jax.evaluators.scaling import Split
from mdc_jax.objectives.base import Objective, Params
from mdc_jax.report.probe_tables import TRAINED
from mdc_jax.training.state import key_for

CHANCE, RAW, UNTRAINED = "chance", "raw pixels", "untrained encoder"
PIXELS, POOLED, FLATTENED, TOKENS, LAYERS = "pixels", "pooled", "flattened", "tokens", "best layer"
_UNTRAINED_PURPOSE = 100  # of keys, beside those of `training.state`

Cached = Mapping[str, Mapping[str, np.ndarray]]  # by split; labels, and features as "encoder/kind"


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the tables: its name, its kind of features, and whose they are (one for each initialisation)."""

    name: str
    features: str
    encoders: tuple[str, ...] = ()

    def spaces(self, cached: Cached, encoder: str) -> list[Split]:
        """The features of one of its encoders by split: of each layer, or of all that there is in one."""
        kind = TOKENS if self.features == FLATTENED else self.features
        found = {split: arrays[f"{encoder}/{kind}"] for split, arrays in cached.items()}
        if self.features == FLATTENED:
            found = {split: x.reshape(len(x), -1) for split, x in found.items()}
        if self.features != LAYERS:
            return [found]
        return [{split: x[:, layer] for split, x in found.items()} for layer in range(found["train"].shape[1])]


def rows(section: sections.LinearProbe, compared: Sequence[str], bound: bool) -> list[Row]:
    """All rows, that of the trained encoder last; `bound`: there is a family that needs flattened tokens."""
    kinds = [POOLED]
    kinds += [FLATTENED] if bound else []
    kinds += [LAYERS] if section.layers else []
    kinds += [TOKENS] if recipes.ATTENTIVE in section.probes else []
    found = []
    if section.baselines:
        untrained = tuple(f"{UNTRAINED} {i}" for i in range(section.untrained_seeds))
        found += [Row(CHANCE, ""), Row(RAW, PIXELS, (RAW,))]
        found += [Row(UNTRAINED, kind, untrained) for kind in kinds if untrained]
    return found + [Row(name, kind, (name,)) for name in (*compared, TRAINED) for kind in kinds]


def extract(
    subject: Subject,
    compared: Mapping[str, Subject],
    section: sections.LinearProbe,
    specs: Mapping[str, str],
    counts: Mapping[str, int],
    families: tuple[str, ...],
    needed: Sequence[Row],
    folder: pathlib.Path,
) -> dict[str, dict[str, np.ndarray]]:
    """Features and labels by split, from one reading of each for each way of preprocessing images.

    Args:
      subject: the trained encoder, whose preprocessing raw pixels and untrained encoders share.
      compared: other runs by name, each read with the preprocessing of its own.
      section: the settings.
      specs: the source of each split.
      counts: examples of each split to read at most.
      families: whose labels are returned.
      needed: the rows that will ask for features.
      folder: for large arrays, see `feature_cache`.
    """
    raw_size = min(section.raw_size, subject.config.image.size)
    kinds = tuple(sorted({TOKENS if row.features == FLATTENED else row.features for row in needed} - {"", PIXELS}))
    encoders = {TRAINED: subject.params}
    if section.baselines:
        encoders |= {f"{UNTRAINED} {i}": _untrained(subject, i) for i in range(section.untrained_seeds)}

    def own(batch: GlobalBatch, _: int) -> dict[str, jax.Array]:
        found = {f"{RAW}/{PIXELS}": _pixels(raw_size, batch["image"])} if section.baselines else {}
        for encoder, params in encoders.items():
            found |= _named(encoder, _encode(subject.objective, kinds, params, batch["image"]))
        return found

    def read(number: int, who: Subject, fn: object) -> Iterator[tuple[str, dict]]:
        # Labels for every run, though they are the same: with them an image needs no caption, and rows stay the same.
        for split, spec in specs.items():
            place = folder / f"{number}_{split}"
            place.mkdir()
            count = min(counts[split], len(open_source(spec)))
            found = host_rows(who, spec, fn, count=count, batch_size=section.batch_size, labels=families)
            yield split, feature_cache.store(found, place, count)

    cached = dict(read(0, subject, own))
    for number, (name, other) in enumerate(compared.items(), 1):

        def foreign(batch: GlobalBatch, _: int, name: str = name, other: Subject = other) -> dict[str, jax.Array]:
            return _named(name, _encode(other.objective, kinds, other.params, batch["image"]))

        for split, found in read(number, other, foreign):
            cached[split] = {**found, **cached[split]}
    return cached


def _named(encoder: str, features: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    return {f"{encoder}/{kind}": value for kind, value in features.items()}


@functools.partial(jax.jit, static_argnums=(0, 1))
def _encode(objective: Objective, kinds: tuple[str, ...], params: Params, images: jax.Array) -> dict[str, jax.Array]:
    """Features of the kinds asked for: pooled f32[B, D], tokens f32[B, T, D], best layer f32[B, L, D]."""
    features = objective.encode(params, images)
    found = {kind: features[kind] for kind in (POOLED, TOKENS) if kind in kinds}
    if LAYERS in kinds:
        found[LAYERS] = features["blocks"].mean(2).swapaxes(0, 1)
    return found


@functools.partial(jax.jit, static_argnums=0)
def _pixels(size: int, images: jax.Array) -> jax.Array:
    """Raw pixels, resized with antialiasing: f32[B, size * size * 3]."""
    images = images.astype(jnp.float32)
    return jax.image.resize(images, (len(images), size, size, 3), "linear").reshape(len(images), -1)


def _untrained(subject: Subject, index: int) -> Params:
    """Parameters as training might have started from, but did not."""
    places = jax.tree.map(lambda leaf: leaf.sharding, subject.params)
    key = key_for(subject.config.seed, 0, _UNTRAINED_PURPOSE + index)
    return jax.jit(subject.objective.init, out_shardings=places)(key)
