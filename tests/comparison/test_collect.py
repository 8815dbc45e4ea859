"""What is in `results.csv`: the log of a run, and what was evaluated since."""

import json
import shutil

import numpy as np
import pytest
from etils import epath

from mdc_jax.comparison import collect, costs
from mdc_jax.config import ConfigError
from mdc_jax.evaluate import VALUES_FILE
from mdc_jax.report import tables
from tests.end_to_end import tiny


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The folder of a run in a comparison of one, with an empty log."""
    found = costs.Costs(8, 1.0, 0.5, np.array([100]), np.array([50.0]))
    monkeypatch.setattr(costs, "of", lambda folder, lines: found)
    folder = epath.Path(tmp_path) / "runs" / "mdc" / "seed0"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(tiny.get_config().to_dict()))
    return folder


def _values(workdir):
    collect.write(workdir)
    lines = tables.read_csv(workdir / collect.RESULTS_FILE)
    found = {(int(line["step"]), line["evaluator"], line["metric"]): float(line["value"]) for line in lines}
    assert len(found) == len(lines)
    return found


def _evaluate(run, step, **values):
    folder = run / "evaluations" / step / "probe"
    folder.mkdir(parents=True)
    (folder / VALUES_FILE).write_text(json.dumps(values))


def test_what_was_evaluated_since_is_there_and_counts_before_the_log(run):
    (run / "metrics.jsonl").write_text('{"step": 100, "probe/shape": 0.8, "probe/count": 0.6, "train/loss": 1.0}\n')
    _evaluate(run, "50", shape=0.7, count=None)
    _evaluate(run, "100", shape=0.9)
    _evaluate(run, "100_changed", shape=0.1)
    assert _values(run.parents[2]) == {
        (50, "probe", "shape"): 0.7,
        (100, "probe", "shape"): 0.9,
        (100, "probe", "count"): 0.6,
    }


def test_what_the_last_third_has_more_than_the_first_is_read_off_the_log(run):
    metrics = {"signal": 3.0, "signal/first_third": 2.0, "signal/last_third": 0.5, "gradient/last_third": 1.0}
    line = {"step": 100, **{f"position_signal/{name}": value for name, value in metrics.items()}}
    (run / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    found = _values(run.parents[2])
    assert found[100, "position_signal", "signal/last_less_first"] == -1.5 and len(found) == len(metrics) + 1


def test_what_was_set_aside_is_no_run(run):
    (run / "metrics.jsonl").write_text('{"step": 100, "probe/shape": 0.8}\n')
    shutil.copytree(run, run.parent / "seed0.bak")
    assert _values(run.parents[2]) == {(100, "probe", "shape"): 0.8}


def test_where_nothing_was_measured_what_is_there_is_kept(tmp_path):
    workdir = epath.Path(tmp_path)
    (workdir / collect.RESULTS_FILE).write_text("numbers of runs that lie elsewhere")
    assert collect.write(workdir) == 0
    assert (workdir / collect.RESULTS_FILE).read_text() == "numbers of runs that lie elsewhere"


@pytest.mark.parametrize("file", ["config.json", "evaluations/50/probe/values.json", "evaluations/50/probe/probe.csv"])
def test_a_file_that_was_cut_off_is_named(run, file):
    _evaluate(run, "50", shape=0.7)
    header = ["row", "features", "probe", "family", "metric", "value"]
    tables.write_csv(run / "evaluations" / "50" / "probe" / "probe.csv", header, [["a", "b", "c", "d", "e", 0.5]] * 2)
    assert _values(run.parents[2])
    content = (run / file).read_bytes()
    for end in (len(content) // 2, len(content) - 2):
        (run / file).write_bytes(content[:end])
        with pytest.raises(ConfigError, match=f"{epath.Path(file).name} is damaged: copy it again, or remove it"):
            collect.write(run.parents[2])
