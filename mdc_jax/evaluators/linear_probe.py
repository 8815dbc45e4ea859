"""Probes of the encoder, beside what chance, raw pixels, untrained encoders and other runs give.

A bound family (which colour has which shape, which object is where) is probed on flattened tokens, since a mean over
tokens cannot say what belongs together, and on the mean beside it, in a table of its own.
"""

import dataclasses
import pathlib
import tempfile
import textwrap
from collections.abc import Iterator, Mapping

import jax
from absl import logging
from etils import epath

from mdc_jax.config import ConfigError, sections
from mdc_jax.config.parse import did_you_mean
from mdc_jax.data.batch import LABEL_PREFIX
from mdc_jax.data.sources import open_source
from mdc_jax.data.sources.base import Family
from mdc_jax.evaluators import probe_features, probe_files, probe_predictions, probe_sets, probes, recipes
from mdc_jax.evaluators.base import Interrupted, Subject, spec_of
from mdc_jax.evaluators.probe_features import FLATTENED, POOLED, TOKENS, TRAINED, Row
from mdc_jax.evaluators.scaling import scale
from mdc_jax.training import checkpoint


class LinearProbe:
    """Yields the trained encoder's metric by family; writes the files of `probe_files`, and of `probe_predictions`."""

    def __init__(self, section: sections.LinearProbe) -> None:
        self._section = probe_sets.filled(section)

    def check(self, config: sections.Config) -> None:
        """See `Evaluator`."""
        for name in self._section.probes:
            if name not in recipes.RECIPES:
                raise ConfigError(f'linear probe: there is no probe "{name}"{did_you_mean(name, recipes.RECIPES)}')
        if not self._section.probes:
            raise ConfigError(f"linear probe: probes is empty; choose from {', '.join(recipes.RECIPES)}")
        if self._section.shots and self._section.refit:
            raise ConfigError("linear probe: refit would add all of validation to the few shots: set refit=False")
        for workdir in _compared(self._section).values():
            checkpoint.steps(workdir)
        _families(self._specs(config), self._section.families)

    def run(self, subject: Subject) -> Iterator[tuple[str, float]]:
        specs = self._specs(subject.config)
        families = _families(specs, self._section.families)
        if not families:
            logging.warning("linear probe: %s has no label family, so there is nothing to probe", specs["train"])
            return
        compared = {name: _other(subject, workdir) for name, workdir in _compared(self._section).items()}
        bound = any(family.bound for family in families.values())
        rows = probe_features.rows(self._section, tuple(compared), bound)
        with tempfile.TemporaryDirectory() as folder:
            counts = {split: self._section.read_factor * count for split, count in self._counts().items()}
            cached = probe_features.extract(
                subject, compared, self._section, specs, counts, tuple(families), rows, pathlib.Path(folder)
            )
            tasks = self._tasks(families, cached, subject.config.seed)
            results = self._results(subject, families, tasks, rows, cached)

        weights = {name: probe_files.weights_hash(who) for name, who in {TRAINED: subject, **compared}.items()}
        if results and jax.process_index() == 0:
            probe_files.write(subject, self._section, specs, compared, weights, families, tasks, results)
            probe_predictions.write(subject, tasks, results, cached["test"]["id"])
        for (name, row, kind), result in results.items():
            features = TOKENS if kind == recipes.ATTENTIVE else FLATTENED if families[name].bound else POOLED
            if row.name == TRAINED and row.features == features:
                metric = name if kind == self._section.probes[0] else f"{name}/{kind}"
                yield metric, result.interval(tasks[name].metric)[0]

    def _results(
        self,
        subject: Subject,
        families: Mapping[str, Family],
        tasks: Mapping[str, probes.Task],
        rows: list[Row],
        cached: probe_features.Cached,
    ) -> probe_files.Results:
        results: dict[tuple[str, Row, str], probes.Result] = {}
        for row in rows:
            if not row.encoders:
                results |= {(name, row, ""): probes.chance(task) for name, task in tasks.items()}
            names = [name for name in tasks if families[name].bound or row.features != FLATTENED]
            for kind in self._section.probes if row.encoders and names else ():
                if (kind == recipes.ATTENTIVE) != (row.features == TOKENS):
                    continue
                found: dict[str, list[probes.Result]] = {name: [] for name in names}
                for encoder in row.encoders:
                    for name, result in self._probe(subject, kind, row.spaces(cached, encoder), tasks, names).items():
                        found[name].append(result)
                results |= {(name, row, kind): probes.pool(parts) for name, parts in found.items()}
        return results

    def _probe(
        self,
        subject: Subject,
        kind: str,
        spaces: list[probe_features.Split],
        tasks: Mapping[str, probes.Task],
        names: list[str],
    ) -> dict[str, probes.Result]:
        section, recipe = self._section, recipes.build(kind, self._section.l2_values)
        how = recipe.scaling if section.scaling == "recipe" or kind == recipes.ATTENTIVE else section.scaling
        refit = section.refit or bool(section.dataset and recipe.refits and not section.shots)
        fitted = ("train", "validation") if refit else ("train",)
        tried: dict[str, probes.Attempt] = {}

        def on(features: probe_features.Split, layer: int) -> None:
            for name in names:
                if subject.should_stop():
                    raise Interrupted
                tried[name] = probes.attempt(
                    features,
                    tasks[name],
                    recipe,
                    tried.get(name),
                    layer=layer,
                    refit=refit,
                    seed=subject.config.seed,
                )

        for number, space in enumerate(spaces, 1):
            # Scaled where nothing holds them once the layer is done: those of one exist at a time.
            on(scale(space, how, turned=recipe.turned, fitted=fitted), number if len(spaces) > 1 else 0)
        return {name: probes.read(found, tasks[name]) for name, found in tried.items()}

    def _specs(self, config: sections.Config) -> dict[str, str]:
        return {split: getattr(self._section, split) or spec_of(config, split) for split in probes.SPLITS}

    def _counts(self) -> dict[str, int]:
        return {split: getattr(self._section, f"{split}_examples") for split in probes.SPLITS}

    def _tasks(
        self, families: Mapping[str, Family], cached: probe_features.Cached, seed: int
    ) -> dict[str, probes.Task]:
        section, tasks = self._section, {}
        for name, family in families.items():
            labels = {split: rows[LABEL_PREFIX + name] for split, rows in cached.items()}
            try:
                tasks[name] = probes.make_task(
                    family, labels, self._counts(), metric=section.metric, shots=section.shots, seed=seed
                )
            except probes.TooFew as reason:
                logging.warning('linear probe: family "%s" is left out: %s', name, reason)
        return tasks


def _compared(section: sections.LinearProbe) -> dict[str, epath.Path]:
    """Workdirs of other runs by the name of their rows; raises ConfigError."""
    found = {}
    for text in section.compared:
        name, _, workdir = text.partition("=")
        if not name or not workdir or name == TRAINED or name in found:
            raise ConfigError(
                f"linear probe: compared={text!r}: write NAME=WORKDIR with a name that no other row has, "
                "as in 'permuted captions=runs/permuted'"
            )
        found[name] = epath.Path(workdir)
    return found


def _other(subject: Subject, workdir: epath.Path) -> Subject:
    """A run that is compared, which may read as many bad records as the subject: it reads the same ones."""
    loaded = checkpoint.load(workdir)
    data = dataclasses.replace(loaded.config.data, max_bad_share=subject.config.data.max_bad_share)
    config = dataclasses.replace(loaded.config, data=data)
    return dataclasses.replace(Subject.of(loaded, subject.out), config=config, should_stop=subject.should_stop)


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
