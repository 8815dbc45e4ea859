"""The log of a run as lines of JSON, which has no NaN: they stand there as null."""

import contextlib
import json
import math
from collections.abc import Mapping

from etils import epath

METRICS_FILE = "metrics.jsonl"


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
