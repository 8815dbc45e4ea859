"""`predictions.jsonl` of probes: what those of the trained encoder say of each test example, a line each.

{"id": 7, "family": "count", "probe": "logistic/pooled", "right": true, "label": 2, "predicted": 2}
{"id": 7, "family": "shape", "probe": "logistic/pooled", "right": 0.5, "label": [1, 0], "score": [3.1, 0.2]}

Of presence, `right` is the share of the names that are likelier than in training where they are there, and less likely
where they are not; `score` are logits. `id` is the number of the example in the test source, so that the lines of two
runs can be paired.

Shapes: N test examples, K names.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from mdc_jax import files
from mdc_jax.evaluators import probes
from mdc_jax.evaluators.base import Subject
from mdc_jax.evaluators.probe_features import TRAINED
from mdc_jax.evaluators.probe_files import Results

FILE = "predictions.jsonl"


def write(subject: Subject, tasks: Mapping[str, probes.Task], results: Results, id_N: np.ndarray) -> None:
    """Writes the file to `subject.out`; `id_N` are those of the test split as it was read."""
    files.write_json_lines(
        subject.out / FILE,
        (
            {"id": line.pop("id"), "family": family, "probe": f"{kind}/{row.features}", **line}
            for (family, row, kind), result in results.items()
            if row.name == TRAINED
            for line in _lines(tasks[family], result, id_N)
        ),
    )


def _lines(task: probes.Task, result: probes.Result, id_N: np.ndarray) -> Iterator[dict[str, Any]]:
    id_N, label, predicted = id_N[task.rows["test"]].tolist(), task.labels["test"], result.predicted
    if task.kind == "class":
        for identity, truth, guess in zip(id_N, label.tolist(), predicted.tolist(), strict=True):
            yield {"id": identity, "right": truth == guess, "label": truth, "predicted": guess}
        return
    right_N = (probes.likelier(task, predicted) == (label > 0)).mean(1)
    # Nine digits tell every float32 from its neighbours: no ties that were none.
    scores = [[float(f"{score:.9g}") for score in row] for row in predicted.tolist()]
    for row in zip(id_N, right_N.tolist(), label.tolist(), scores, strict=True):
        yield dict(zip(("id", "right", "label", "score"), row, strict=True))
