"""Linear probes of the encoder, beside what chance, raw pixels and an untrained encoder give.

Features are cached once per split. A bound family (which colour has which shape, which object is
where) is probed on flattened tokens, since a mean over tokens cannot say what belongs together, and
on the mean beside it, in a table of its own.

Shapes: B examples of a batch, N of a split, T image tokens, D width.
"""

import dataclasses
import functools
import textwrap
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from mdc_jax.config import ConfigError, sections
from mdc_jax.data.batch import LABEL_PREFIX
from mdc_jax.data.sources import open_source
from mdc_jax.data.sources.base import Family
from mdc_jax.evaluators import probe_sets, probes
from mdc_jax.evaluators.base import GlobalBatch, Interrupted, Subject, extract, spec_of
from mdc_jax.objectives.base import Objective, Params
from mdc_jax.report import probe_tables, tables
from mdc_jax.training.state import key_for

CHANCE, RAW, UNTRAINED, TRAINED = "chance", "raw pixels", "untrained encoder", "trained encoder"
PIXELS, POOLED, FLATTENED = "pixels", "pooled", "flattened"
_UNTRAINED_PURPOSE = 100  # of keys, beside those of `training.state`


@dataclasses.dataclass(frozen=True)
class _Row:
    """A row of the tables: its name, its kind of features, and the caches that hold them (one per initialisation)."""

    name: str
    features: str
    caches: tuple[str, ...] = ()


class LinearProbe:
    """Yields the trained encoder's metric by family; writes `probe.csv` and `probe.md`."""

    def __init__(self, section: sections.LinearProbe) -> None:
        self._section = probe_sets.filled(section)

    def check(self, config: sections.Config) -> None:
        """See `Evaluator`."""
        _families(self._specs(config), self._section.families)

    def run(self, subject: Subject) -> Iterator[tuple[str, float]]:
        specs = self._specs(subject.config)
        families = _families(specs, self._section.families)
        if not families:
            logging.warning("linear probe: %s has no label family, so there is nothing to probe", specs["train"])
            return
        bound = any(family.bound for family in families.values())
        cached = self._extract(subject, specs, tuple(families), bound)
        tasks = _tasks(families, cached, self._counts())

        results: dict[tuple[str, _Row], probes.Result] = {}
        for row in self._rows(bound):
            if not row.caches:
                results |= {(name, row): probes.chance(task) for name, task in tasks.items()}
                continue
            spaces = [
                probes.standardise({split: cached[split][cache] for split in probes.SPLITS}) for cache in row.caches
            ]
            for name, task in tasks.items():
                if subject.should_stop():
                    raise Interrupted
                if families[name].bound or row.features != FLATTENED:
                    results[name, row] = probes.pool([probes.probe(space, task) for space in spaces])

        if results and jax.process_index() == 0:
            _write(subject, families, tasks, results)
        for (name, row), result in results.items():
            if row.name == TRAINED and row.features == (FLATTENED if families[name].bound else POOLED):
                yield name, result.interval(tasks[name].metric)[0]

    def _specs(self, config: sections.Config) -> dict[str, str]:
        return {split: getattr(self._section, split) or spec_of(config, split) for split in probes.SPLITS}

    def _rows(self, bound: bool) -> list[_Row]:
        kinds = (POOLED, FLATTENED) if bound else (POOLED,)
        rows = []
        if self._section.baselines:
            untrained = [f"{UNTRAINED} {i}" for i in range(self._section.untrained_seeds)]
            rows += [_Row(CHANCE, ""), _Row(RAW, PIXELS, (PIXELS,))]
            rows += [_Row(UNTRAINED, kind, tuple(f"{encoder}/{kind}" for encoder in untrained)) for kind in kinds]
        return rows + [_Row(TRAINED, kind, (f"{TRAINED}/{kind}",)) for kind in kinds]

    def _extract(
        self, subject: Subject, specs: Mapping[str, str], families: tuple[str, ...], bound: bool
    ) -> dict[str, dict[str, np.ndarray]]:
        """Features and labels by split, from one reading of each."""
        section, raw_size = self._section, min(self._section.raw_size, subject.config.image.size)
        encoders = {TRAINED: subject.params}
        if section.baselines:
            encoders |= {f"{UNTRAINED} {i}": _untrained(subject, i) for i in range(section.untrained_seeds)}

        def rows(batch: GlobalBatch, _: int) -> dict[str, jax.Array]:
            found = {PIXELS: _pixels(raw_size, batch["image"])} if section.baselines else {}
            for encoder, params in encoders.items():
                features = _encode(subject.objective, bound, params, batch["image"])
                found |= {f"{encoder}/{kind}": value for kind, value in features.items()}
            return found

        counts = {split: section.read_factor * count for split, count in self._counts().items()}
        return {
            split: extract(subject, spec, rows, count=counts[split], batch_size=section.batch_size, labels=families)
            for split, spec in specs.items()
        }

    def _counts(self) -> dict[str, int]:
        return {split: getattr(self._section, f"{split}_examples") for split in probes.SPLITS}


@functools.partial(jax.jit, static_argnums=(0, 1))
def _encode(objective: Objective, bound: bool, params: Params, images: jax.Array) -> dict[str, jax.Array]:
    features = objective.encode(params, images)
    kinds = {POOLED: features["pooled"]}
    if bound:
        kinds[FLATTENED] = features["tokens"].reshape(len(images), -1)
    return kinds


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


def _families(specs: Mapping[str, str], wanted: tuple[str, ...]) -> dict[str, Family]:
    """The label families to probe; raises ConfigError for one that a split does not have, or with other names."""
    offered = {split: open_source(spec).families for split, spec in specs.items()}
    names = wanted or tuple(offered["train"])
    for name in names:
        for split, families in offered.items():
            if name not in families:
                raise ConfigError(
                    f'linear probe: {specs[split]} has no label family "{name}"; it has {", ".join(families) or "none"}'
                )
            if families[name] != offered["train"][name]:  # labels are numbers, which would mean something else
                meant, other = (_shown(offered[where][name]) for where in ("train", split))
                raise ConfigError(
                    f'linear probe: label family "{name}" is {meant} in {specs["train"]}, but {other} in '
                    f"{specs[split]}. Every split needs the same names: give it an image of each, or split one folder "
                    "by python -m mdc_jax.data.prepare.folder"
                )
    return {name: offered["train"][name] for name in names}


def _shown(family: Family) -> str:
    return f"{family.kind} of " + textwrap.shorten(", ".join(family.names), 300, placeholder=" ...")


def _tasks(
    families: Mapping[str, Family], cached: Mapping[str, Mapping[str, np.ndarray]], most: Mapping[str, int]
) -> dict[str, probes.Task]:
    tasks = {}
    for name, family in families.items():
        try:
            labels = {split: rows[LABEL_PREFIX + name] for split, rows in cached.items()}
            tasks[name] = probes.make_task(family, labels, most)
        except probes.TooFew as reason:
            logging.warning('linear probe: family "%s" is left out: %s', name, reason)
    return tasks


def _write(
    subject: Subject,
    families: Mapping[str, Family],
    tasks: Mapping[str, probes.Task],
    results: Mapping[tuple[str, _Row], probes.Result],
) -> None:
    """Writes every number to `probe.csv`, and the tables to `probe.md`."""
    lines = []
    for (name, row), result in results.items():
        task = tasks[name]
        for metric in result.metrics:
            value, low, high = result.interval(metric)
            line = {
                "family": name,
                "bound": int(families[name].bound),
                "row": row.name,
                "features": row.features,
                "metric": metric,
                "value": value,
                "low": low,
                "high": high,
                "l2": " ".join(f"{l2:g}" for l2 in result.l2s),
                "l2_at_edge": int(result.at_edge),
                "names": len(task.names),
                "step": subject.step,
            }
            lines.append(line | {split: len(task.rows[split]) for split in probes.SPLITS})
    tables.write_csv(subject.out / "probe.csv", list(lines[0]), [list(line.values()) for line in lines])

    text = f"# Linear probes at step {subject.step}\n\n{probe_tables.markdown(lines)}"
    text += "\nIn brackets: 95% bootstrap intervals over the test examples.\n"
    at_edge = [line for line in lines if line["l2_at_edge"] and line["metric"] == tasks[line["family"]].metric]
    for line in at_edge:
        note = (
            f"{line['family']} on {probe_tables.row_label(line)}: the best L2 ({line['l2']}) is the last that was tried"
        )
        logging.warning("linear probe: %s", note)
        text += f"\n{note}.\n"
    (subject.out / "probe.md").write_text(text)
