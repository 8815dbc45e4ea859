"""The claim that no ratio need be tuned is made of two data sets, and only where the numbers allow it."""

import statistics

import numpy as np
import pytest
import scipy.stats

from mdc_jax.comparison import findings, ratios
from mdc_jax.comparison.findings import Findings, Measure, Point, Run
from mdc_jax.comparison.significance import NoSharedSeed
from mdc_jax.config import ConfigError
from mdc_jax.report import tables
from tests.comparison import fakes

RATIOS = {"low": 0.15, "middle": 0.5, "high": 0.85}
NOISE = (-0.001, 0.0, 0.001)  # of three seeds, each entry in another order
LONG = {"low": 0.90, "middle": 0.84, "high": 0.80, "mdc": 0.897}
SHORT = {"low": 0.80, "middle": 0.84, "high": 0.90, "mdc": 0.899}


def found(tmp_path, name, means, seeds=3):
    """A comparison as `findings.read` gives it: a probe of one family."""
    root = fakes.epath.Path(tmp_path) / name
    measure, curves, runs = Measure("probe", "probe.csv", "shape"), {}, []
    for place, (entry, mean) in enumerate(means.items()):
        for seed in range(seeds):
            folder = root / entry / f"seed{seed}"
            path = folder / "evaluations" / "100" / "probe" / "probe.csv"
            path.parent.mkdir(parents=True)
            tables.write_csv(path, ("family", "bound"), [["shape", 0]])
            value = mean + NOISE[(seed + place) % 3]
            curves.setdefault(entry, {})[seed] = (Point(100, 0.0, 0.0, 0.0, value),)
            runs.append(Run(entry, seed, folder, "", 100))
    entries = [
        {
            "name": entry,
            "objective": "masked_lm" if entry in RATIOS else "masked_diffusion",
            "control": False,
            "settings": [f"objective.ratio={RATIOS[entry]}"] if entry in RATIOS else [],
        }
        for entry in ("mdc", *RATIOS)
        if entry in means
    ]
    return Findings({"base": name, "entries": entries}, tuple(runs), {measure: curves})


def claim(tmp_path, *sets):
    both = [found(tmp_path, f"set{number}", means) for number, means in enumerate(sets)]
    return ratios.holds(*map(ratios.sweep, both), "mdc")


def test_it_holds_where_ratios_have_to_be_tuned_and_the_schedule_does_not(tmp_path):
    assert claim(tmp_path, SHORT, LONG)


@pytest.mark.parametrize(
    ("short", "long"),
    [
        (SHORT, {**LONG, "low": 0.78, "high": 0.90}),  # one ratio is the best of both
        ({**SHORT, "low": 0.8985}, LONG),  # the other set's best ratio is as good here
        (SHORT, {**LONG, "mdc": 0.885}),  # the schedule is worse than a point on one set
        ({**SHORT, "mdc": 0.892}, LONG),  # not by its mean, but at the bound of its interval
    ],
)
def test_each_condition_is_needed(tmp_path, short, long):
    assert not claim(tmp_path, short, long)
    assert not claim(tmp_path / "swapped", long, short)


def test_p_is_that_of_a_paired_test_times_the_ratios_it_was_chosen_from(tmp_path):
    own, other = (ratios.sweep(found(tmp_path, n, means)) for n, means in (("short", SHORT), ("long", LONG)))
    assert (own.best, other.best) == ("high", "low")
    difference, p = ratios.cost_of_the_others_best(own, other)
    values = [list(own.values[name].values()) for name in ("high", "low")]
    assert difference.mean == pytest.approx(statistics.fmean(np.subtract(*values)))
    assert p == pytest.approx(2 * scipy.stats.ttest_rel(*values).pvalue)


def test_a_seed_that_one_of_them_lacks_counts_for_none(tmp_path):
    """The third seed is easy: a ratio that lacks it would not be the best one by means of other seeds."""
    short = found(tmp_path, "short", {**SHORT, "middle": 0.92})
    (curves,) = short.curves.values()
    for entry, seeds in curves.items():
        if entry == "middle":
            del seeds[2]
        else:
            seeds[2] = (seeds[2][0]._replace(value=0.99),)
    own = ratios.sweep(short)
    assert own.best == "middle" and all(sorted(seeds) == [0, 1] for seeds in own.shared.values())
    assert not ratios.holds(own, ratios.sweep(found(tmp_path, "long", LONG)), "mdc")
    for seed in (0, 1):
        del curves["low"][seed]
    with pytest.raises(NoSharedSeed, match="no seed is finished for all of low, middle, high, mdc"):
        ratios.holds(ratios.sweep(short), own, "mdc")


def test_controls_are_no_ratios_and_nothing_but_masked_diffusion_is_a_schedule(tmp_path):
    one = found(tmp_path, "one", SHORT)
    one.plan["entries"][1]["control"] = True
    assert set(ratios.sweep(one).ratios) == {"middle", "high"}
    other = found(tmp_path, "other", SHORT)
    other.plan["entries"][0]["objective"] = "autoregressive"
    assert ratios.sweep(other) is None


def test_one_seed_shows_nothing(tmp_path):
    sets = [ratios.sweep(found(tmp_path, name, means, 1)) for name, means in (("short", SHORT), ("long", LONG))]
    assert not ratios.holds(*sets, "mdc")


def test_the_report_says_it_with_its_reasons(tmp_path):
    short, long = found(tmp_path, "short", SHORT), found(tmp_path, "long", LONG)
    _, picture, table, paragraph = ratios.blocks(short, long, fakes.epath.Path(tmp_path))
    assert "mdc: holds" in paragraph.text and (tmp_path / "ratios.pdf").exists() and picture.name == "ratios"
    assert {row[0] for row in table.rows} == {"short", "long"} and len(table.rows) == 4
    assert "high, the best here, less low" in table.rows[0][1] and "excludes 0" in table.rows[0][2]
    assert len(ratios.blocks(short, None, fakes.epath.Path(tmp_path))) == 2  # one set: a figure and no verdict
    with pytest.raises(ConfigError, match="must be two data sets with results of the same ratios"):
        ratios.blocks(short, found(tmp_path, "fewer", {k: v for k, v in LONG.items() if k != "high"}), tmp_path)


def test_a_comparison_that_is_not_finished_has_a_figure_and_no_verdict(tmp_path):
    short, long = found(tmp_path, "short", SHORT), found(tmp_path, "long", LONG)
    (curves,) = short.curves.values()
    curves["high"], curves["low"] = {0: curves["high"][0]}, {1: curves["low"][1]}
    assert len(ratios.blocks(short, None, fakes.epath.Path(tmp_path))) == 2
    with pytest.raises(ConfigError, match="--beside: no seed is finished for all of low, middle, high, mdc: train"):
        ratios.blocks(short, long, fakes.epath.Path(tmp_path))


def test_an_error_of_the_program_is_not_taken_for_one_of_the_data(tmp_path, monkeypatch):
    def fail(*_):
        raise ValueError("a bug")

    monkeypatch.setattr(ratios, "said", fail)
    with pytest.raises(ValueError, match=r"^a bug$"):
        ratios.blocks(found(tmp_path, "short", SHORT), found(tmp_path, "long", LONG), fakes.epath.Path(tmp_path))


def test_a_comparison_without_ratios_has_no_such_part(tmp_path):
    assert ratios.blocks(findings.read(fakes.comparison(tmp_path)), None, fakes.epath.Path(tmp_path)) == []
