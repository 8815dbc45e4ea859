import numpy as np
import pytest
import scipy.stats
from etils import epath

from mdc_jax.report import collect, metrics_file, tables


def lines(trained: float, raw: float = 0.7) -> list[dict[str, str]]:
    common = {"family": "shape", "bound": "0", "metric": "auc"}
    return [
        common | {"row": "raw pixels", "features": "pixels", "value": str(raw), "low": "0.65", "high": "0.75"},
        common | {"row": "trained encoder", "features": "pooled", "value": str(trained), "low": "0", "high": "1"},
    ]


def test_trained_rows_take_their_group_s_name_and_an_interval_over_runs():
    groups = [("mdc", [lines(0.90), lines(0.92), lines(0.97)]), ("permuted", [lines(0.6)])]
    found = {row["row"]: row for row in (dict(zip(collect.HEADER, r, strict=True)) for r in collect.collect(groups))}
    assert list(found) == ["raw pixels", "mdc", "permuted"]
    low, high = scipy.stats.t.interval(0.95, 2, loc=0.93, scale=scipy.stats.sem([0.90, 0.92, 0.97]))
    assert (found["mdc"]["low"], found["mdc"]["high"]) == pytest.approx((low, min(high, 1)))
    assert (found["mdc"]["runs"], found["mdc"]["interval"]) == (3, "runs")
    # What has no seed keeps the interval over test examples, and is not counted again for every group.
    assert (found["raw pixels"]["low"], found["raw pixels"]["runs"]) == (0.65, 3)
    assert found["raw pixels"]["interval"] == found["permuted"]["interval"] == "test examples"


def test_an_interval_of_several_runs_is_over_these_however_little_they_differ():
    """What is read beside it must not be another kind of interval, unmarked."""
    groups = [("mdc", [lines(0.9000), lines(0.9004)])]
    found = {row["row"]: row for row in (dict(zip(collect.HEADER, r, strict=True)) for r in collect.collect(groups))}
    half = scipy.stats.sem([0.9000, 0.9004]) * scipy.stats.t.ppf(0.975, 1)
    assert (found["mdc"]["low"], found["mdc"]["interval"]) == (pytest.approx(0.9002 - half), "runs")
    assert found["raw pixels"]["interval"] == "test examples"


def test_the_latest_probe_of_a_run_is_read(tmp_path):
    run = epath.Path(tmp_path)
    for step, name, value in ((900, "probe", "old"), (1000, "probe", "new"), (1000, "probe_other", "other")):
        folder = run / "evaluations" / str(step) / name
        folder.mkdir(parents=True)
        tables.write_csv(folder / "probe.csv", ["row"], [[value]])
    assert collect.latest_probe(run) == [{"row": "new"}]
    assert collect.latest_probe(run, "probe_other") == [{"row": "other"}]
    with pytest.raises(FileNotFoundError, match="run that probe first"):
        collect.latest_probe(run / "evaluations")


def test_metrics_are_means_over_runs_with_an_interval():
    groups = [("mdc", [{"captions/right": 0.8, "loss": 1.0}, {"captions/right": 0.9, "loss": 1.0}])]
    right, loss = (dict(zip(collect.METRICS_HEADER, row, strict=True)) for row in collect.collect_metrics(groups))
    low, high = scipy.stats.t.interval(0.95, 1, loc=0.85, scale=scipy.stats.sem([0.8, 0.9]))
    assert (right["metric"], right["row"], right["runs"]) == ("captions/right", "mdc", 2)
    assert (right["value"], right["low"], right["high"]) == pytest.approx((0.85, low, high))
    assert loss["value"] == loss["low"] == loss["high"] == 1.0


def test_a_run_that_has_not_finished_has_no_metrics(tmp_path):
    with pytest.raises(FileNotFoundError, match="let the run finish"):
        collect.latest_results(epath.Path(tmp_path))


def test_what_is_not_finite_in_a_run_has_no_interval(tmp_path):
    metrics_file.write_results(epath.Path(tmp_path), 3, {"captions/error": float("nan"), "loss": 1.0})
    found = collect.latest_results(epath.Path(tmp_path))
    error, loss = collect.collect_metrics([("mdc", [found])])
    assert np.isnan(error[2]) and loss[2] == 1.0
