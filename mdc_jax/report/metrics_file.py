"""The log of a run as lines of JSON, and what it ended with. JSON has no NaN: they stand there as null."""

import contextlib
import json
import math
from collections.abc import Mapping

from etils import epath

from mdc_jax import files

METRICS_FILE, RESULTS_FILE = "metrics.jsonl", "results.json"


def without_nan(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Metrics for JSON, which has no NaN: null stands for what is not finite."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def with_nan(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Metrics as JSON has them, with NaN for null."""
    return {name: math.nan if value is None else value for name, value in metrics.items()}


def read(workdir: epath.Path) -> list[dict[str, float]]:
    """The lines of `metrics.jsonl`; one that a crash cut off, or that is damaged, is left out."""
    path = workdir / METRICS_FILE
    lines = []
    for line in path.read_text().splitlines() if path.exists() else ():
        with contextlib.suppress(json.JSONDecodeError):
            content = json.loads(line)
            if isinstance(content, dict) and "step" in content:
                lines.append(content)
    return lines


def write_results(workdir: epath.Path, step: int, results: Mapping[str, float]) -> None:
    """Writes the metrics that a run ended with, at which step."""
    files.write(workdir / RESULTS_FILE, json.dumps({"step": step, "results": without_nan(results)}, indent=2))


def read_results(workdir: epath.Path) -> tuple[int, dict[str, float]] | None:
    """The step that a run ended at, and its metrics there; None where it has not ended, or they are damaged."""
    stored = files.read_json(workdir / RESULTS_FILE, missing_if_damaged=True) or {}
    step, results = stored.get("step"), stored.get("results")
    return (step, with_nan(results)) if isinstance(step, int) and isinstance(results, dict) else None
