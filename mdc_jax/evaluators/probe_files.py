"""What a table of probes leaves behind: `probe.csv`, `probe_sweep.csv`, `probe.json` and `probe.md`.

probe.csv        every number, with its interval and what validation chose
probe_sweep.csv  every setting that was tried, with its validation score
probe.json       what the numbers are of: sources, labels, weights, preprocessing, seeds, settings
probe.md         tables
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from absl import logging

from mdc_jax import files
from mdc_jax.config import sections
from mdc_jax.data.sources import open_source
from mdc_jax.data.sources.base import Family
from mdc_jax.evaluators import probes
from mdc_jax.evaluators.base import Subject, to_host
from mdc_jax.evaluators.fitting import Settings
from mdc_jax.evaluators.probe_features import TRAINED, Row
from mdc_jax.exchange import trees
from mdc_jax.report import probe_tables, tables

Results = Mapping[tuple[str, Row, str], probes.Result]  # by family, row and kind of probe


def write(
    subject: Subject,
    section: sections.LinearProbe,
    specs: Mapping[str, str],
    compared: Mapping[str, Subject],
    weights: Mapping[str, str],
    families: Mapping[str, Family],
    tasks: Mapping[str, probes.Task],
    results: Results,
) -> None:
    """Writes the files to `subject.out`; `weights` are hashes by name of the row, see `weights_hash`."""
    lines = _lines(subject, families, tasks, results)
    tables.write_csv(subject.out / "probe.csv", list(lines[0]), [list(line.values()) for line in lines])
    _write_sweep(subject, tasks, results)
    about = _about(subject, section, specs, compared, weights, families, tasks)
    files.write(subject.out / "probe.json", json.dumps(about, indent=2) + "\n")

    text = f"# Probes at step {subject.step}\n\n{probe_tables.markdown(lines)}"
    text += "\nIn brackets: 95% bootstrap intervals over the test examples.\n"
    text += probe_tables.fitted_on(lines)
    if section.baselines:
        text += probe_tables.missing_rows(lines)
    for line in lines:
        if line["at_edge"] and line["metric"] == tasks[line["family"]].metric:
            where = f"{line['family']} on {probe_tables.row_label(line)}"
            note = f"{where}: the best setting ({line['chosen']}) is at the edge of what was tried"
            logging.warning("linear probe: %s", note)
            text += f"\n{note}.\n"
    (subject.out / "probe.md").write_text(text)


def weights_hash(subject: Subject) -> str:
    """sha256 of the encoder that is probed. Every process has to ask: each may hold a part of it."""
    return trees.sha256(trees.flat(to_host(subject.params["encoder"])))


def _lines(
    subject: Subject, families: Mapping[str, Family], tasks: Mapping[str, probes.Task], results: Results
) -> list[dict[str, Any]]:
    lines = []
    for (name, row, kind), result in results.items():
        task = tasks[name]
        for metric in result.metrics:
            value, low, high = result.interval(metric)
            line = {
                "family": name,
                "bound": int(families[name].bound),
                "row": row.name,
                "features": row.features,
                "probe": kind,
                "metric": metric,
                "value": value,
                "low": low,
                "high": high,
                "l2": " ".join(f"{settings['l2']:g}" for settings in result.chosen if "l2" in settings),
                "chosen": "; ".join(_text(settings) for settings in result.chosen),
                "at_edge": int(result.at_edge),
                "fitted_on": ("train+validation" if result.refit else "train") if kind else "",
                "names": len(task.names),
                "step": subject.step,
            }
            lines.append(line | {split: len(task.rows[split]) for split in probes.SPLITS})
    return lines


def _write_sweep(subject: Subject, tasks: Mapping[str, probes.Task], results: Results) -> None:
    header = ("family", "row", "features", "probe", "initialisation", "setting", "metric", "validation", "chosen")
    rows = [
        (
            name,
            row.name,
            row.features,
            kind,
            initialisation,
            _text(trial.settings),
            tasks[name].metric,
            float(trial.score),
            int(trial.settings == result.chosen[initialisation]),
        )
        for (name, row, kind), result in results.items()
        for initialisation, trials in enumerate(result.trials)
        for trial in trials
    ]
    tables.write_csv(subject.out / "probe_sweep.csv", header, rows)


def _text(settings: Settings) -> str:
    return " ".join(f"{name}={value:g}" for name, value in settings.items())


def _about(
    subject: Subject,
    section: sections.LinearProbe,
    specs: Mapping[str, str],
    compared: Mapping[str, Subject],
    weights: Mapping[str, str],
    families: Mapping[str, Family],
    tasks: Mapping[str, probes.Task],
) -> dict[str, Any]:
    def model(name: str, who: Subject) -> dict[str, Any]:
        preprocessing = dataclasses.asdict(who.config.image)
        return {"step": who.step, "seed": who.config.seed, "weights": weights[name], "preprocessing": preprocessing}

    return {
        **model(TRAINED, subject),
        "splits": {split: {"source": spec, "hash": open_source(spec).fingerprint} for split, spec in specs.items()},
        "families": {
            name: {
                "kind": task.kind,
                "bound": families[name].bound,
                "metric": task.metric,
                "names": list(task.names),  # in the order of the labels: of classes, name i is label i
                "examples": {split: len(rows) for split, rows in task.rows.items()},
            }
            for name, task in tasks.items()
        },
        "settings": dataclasses.asdict(section),
        "compared": {name: model(name, other) for name, other in compared.items()},
    }
