"""Tables of linear probes, from the lines that `probe.csv` holds."""

from collections.abc import Iterable, Mapping
from typing import Any

from mdc_jax.report import tables

Line = Mapping[str, Any]

TRAINED = "trained encoder"  # the row of the run that is probed
TITLES = {0: "what is in the image", 1: "what belongs together, and where it stands"}  # by whether families are bound
MAIN_METRICS = ("auc", "accuracy", "mean_per_class")  # of a family, the one that is shown
_USUAL_PROBE = "logistic"
_FEATURES_SHOWN = ("pooled", "flattened", "best layer", "tokens")
# Rows that runs of their own give, and what each run is.
EXPECTED_ROWS = {
    "permuted captions": "trained on captions permuted afresh every epoch",
    "supervised ceiling": "trained on the labels, with objective=supervised",
}


def markdown(lines: Iterable[Line]) -> str:
    """Tables of rows by families, one of unbound and one of bound families.

    Args:
      lines: with at least family, bound, row, features, metric, value, low and high, as text or numbers.
    """
    cells: dict[int, dict[tuple[str, str], str]] = {}
    for line in lines:
        if line["metric"] in MAIN_METRICS:
            key = row_label(line), f"{line['family']} ({line['metric']})"
            value = tables.interval(*(float(line[name]) for name in ("value", "low", "high")))
            cells.setdefault(int(line["bound"]), {})[key] = value
    return "\n".join(f"## {TITLES[bound].capitalize()}\n\n{tables.grid(cells[bound])}" for bound in sorted(cells))


def row_label(line: Line) -> str:
    """Name of a row, with its features where an encoder offers several, and its probe where it is not the usual one."""
    parts = [line["row"], line["features"] if line["features"] in _FEATURES_SHOWN else ""]
    parts.append("" if line.get("probe", "") == _USUAL_PROBE else line.get("probe", ""))
    return ", ".join(filter(None, parts))


def fitted_on(lines: Iterable[Line]) -> str:
    """A sentence for each kind of probe: whether it has seen the validation examples that chose its settings."""
    meaning = {
        "train": "fitted on training examples alone",
        "train+validation": "fitted again on training and validation examples, with what validation had chosen",
    }
    found = dict.fromkeys((line["probe"], line["fitted_on"]) for line in lines if line["fitted_on"])
    return "".join(f"\n{probe}: {meaning[examples]}.\n" for probe, examples in found)


def missing_rows(lines: Iterable[Line]) -> str:
    """A sentence for each of EXPECTED_ROWS that is not there."""
    there = {line["row"] for line in lines}
    return "".join(
        f'\nThere is no row "{name}": give a run {meaning}, as in compared=("{name}=WORKDIR",).\n'
        for name, meaning in EXPECTED_ROWS.items()
        if name not in there
    )
