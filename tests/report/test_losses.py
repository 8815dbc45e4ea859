"""Losses of several runs are joined step by step."""

import json
import math

import pytest
import scipy.stats
from etils import epath

from mdc_jax.report import losses, tables
from mdc_jax.report.metrics_file import METRICS_FILE


def run(folder: epath.Path, name: str, lines: list[dict[str, float | None]]) -> epath.Path:
    (folder / name).mkdir()
    (folder / name / METRICS_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / name


def test_training_is_averaged_since_the_held_out_loss_before(tmp_path):
    workdir = run(
        epath.Path(tmp_path),
        "seed0",
        [
            {"step": 0, "held_out/loss": 7.0},
            {"step": 1, "train/loss": 5.0, "train/accuracy": 0.1},
            {"step": 2, "train/loss": 3.0},
            {"step": 2, "held_out/loss": 4.5, "other/loss": 9.0},
            {"step": 3, "train/loss": 2.0},
            {"step": 4, "train/loss": None},
            {"step": 4, "held_out/loss": 4.0},
            {"step": 5, "train/loss": 1.0},
        ],
    )
    found = losses.of_run(workdir)
    assert math.isnan(found.pop((4, "train")))  # JSON has no nan
    assert found == {(0, "held out"): 7.0, (2, "train"): 4.0, (2, "held out"): 4.5, (4, "held out"): 4.0}
    assert losses.of_run(workdir, "other") == {(2, "train"): 4.0, (2, "held out"): 9.0}
    with pytest.raises(FileNotFoundError, match=r"no probe/loss in metrics\.jsonl"):
        losses.of_run(workdir, "probe")


def test_losses_are_means_over_runs_with_an_interval(tmp_path):
    longer = {(2, "train"): 4.0, (2, "held out"): 4.5, (4, "train"): 2.0, (4, "held out"): 4.1}
    shorter = {(2, "train"): 5.0, (2, "held out"): 4.5}
    rows = losses.collect([("mdc", [longer, shorter]), ("ar", [shorter])])
    assert [tuple(row[:3]) for row in rows] == [*(("mdc", *key) for key in longer), *(("ar", *key) for key in shorter)]
    low, high = scipy.stats.t.interval(0.95, 1, loc=4.5, scale=scipy.stats.sem([4.0, 5.0]))
    assert rows[0][3:] == [4.5, pytest.approx(low), pytest.approx(high), 2]
    assert rows[1][3:] == [4.5, 4.5, 4.5, 2]
    assert rows[2][3:] == [2.0, 2.0, 2.0, 1]  # the other run had ended

    path = epath.Path(tmp_path) / "losses.csv"
    tables.write_csv(path, losses.HEADER, rows)
    last = tables.read_csv(path)[-1]
    assert (last["row"], last["step"], last["loss"], last["value"]) == ("ar", "2", "held out", "4.5")
    assert "| ar, step 2  | 5.000" in losses.markdown(rows)


@pytest.mark.filterwarnings("error")
def test_a_loss_that_was_not_finite_is_shown_as_such():
    rows = losses.collect([("mdc", [{(2, "train"): math.nan, (2, "held out"): 1.0}])])
    assert all(map(math.isnan, rows[0][3:6])) and rows[1][3:] == [1.0, 1.0, 1.0, 1]
    assert losses.markdown(rows).splitlines()[-1] == "| mdc, step 2 | nan   | 1.000    |"
