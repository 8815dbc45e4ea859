"""The place of a word is judged by what becomes of the same words elsewhere, and by objectives beside each other."""

import pytest
import scipy.stats

from mdc_jax.comparison import positions, report
from mdc_jax.comparison.findings import Findings, Measure, Point, Run
from mdc_jax.config import ConfigError
from mdc_jax.report import tables
from tests.comparison import fakes

NOISE = (-0.001, 0.0, 0.001)  # of three seeds, each entry in another order, and more of it where stated last
ENTRIES = {"mdc": "masked_diffusion", "ar": "autoregressive", "reversed": "autoregressive", "told": "supervised"}
FIRST = {"mdc": 0.80, "ar": 0.90, "reversed": 0.70, "told": 0.99}  # of the probe of the background, early
LAST = {"mdc": 0.80, "ar": 0.70, "reversed": 0.90, "told": 0.99}
END = 0.05  # what the rest of the training adds


def found(tmp_path, base, means):
    """A comparison as `findings.read` gives it: the course of a probe, and the signal by position."""
    root, runs = fakes.epath.Path(tmp_path) / base.replace("/", "_"), []
    curves = {Measure("curve", "probe.csv", "background"): {}, Measure("probe", "probe.csv", "background"): {}}
    signals = {metric: Measure("signal", "position_signal.csv", metric) for metric in ("signal/last_less_first",)}
    curves |= {measure: {} for measure in signals.values()}
    for place, (entry, mean) in enumerate(means.items()):
        for seed in range(3):
            folder = root / entry / f"seed{seed}"
            path = folder / "evaluations" / "100" / "signal" / "position_signal.csv"
            path.parent.mkdir(parents=True)
            rows = [["all", 0, 1.0, 0.1], ["all", 1, 0.5, 0.1]]
            tables.write_csv(path, ("masked_share", "position", "signal", "gradient"), rows)
            value = mean + NOISE[(seed + place) % 3] * (1 + place * base.endswith("last"))
            early, end = (Point(step, 0.0, 0.0, 0.0, value + more) for step, more in ((50, 0.0), (100, END)))
            for measure, by_entry in curves.items():
                by_entry.setdefault(entry, {})[seed] = (early, end) if measure.evaluator == "curve" else (end,)
            runs.append(Run(entry, seed, folder, "", 100))
    entries = [
        {
            "name": name,
            "objective": objective,
            "control": False,
            "settings": ["objective.order=right_to_left"] if name == "reversed" else [],
        }
        for name, objective in ENTRIES.items()
    ]
    return Findings({"base": base, "budget": {"steps": 100}, "entries": entries}, tuple(runs), curves)


def places(tmp_path, first=FIRST, last=LAST, more=""):
    both = (("first", first), ("last", last))
    return [found(tmp_path, f"scenes.py:sentences=2{more},background={name}", means) for name, means in both]


def shifts(every):
    return {
        (one.redundancy, one.time, one.other): one for one in positions.shifts({positions.place(f): f for f in every})
    }


def test_places_are_those_of_the_base_config(tmp_path):
    first, last = places(tmp_path, more=",redundancy=0.8")
    assert positions.place(first) == (0.8, "first") and positions.place(last) == (0.8, "last")
    assert positions.place(found(tmp_path, "scenes.py:sentences=2", FIRST)) is None


def test_an_order_that_loses_by_what_it_reads_late_is_as_the_paper_argues_in_both_directions(tmp_path):
    every = shifts(places(tmp_path))
    assert {key[1:] for key in every} == {(t, o) for t in ("early", "at the end") for o in ("ar", "reversed")}
    one = every[0.0, "early", "ar"]
    assert one.difference.mean == pytest.approx(0.2) and one.values["ar"][0] == pytest.approx(-0.2)
    assert every[0.0, "early", "reversed"].difference.mean == pytest.approx(-0.2)
    assert {one.verdict for one in every.values()} == {positions.AS_ARGUED}


def test_more_signal_everywhere_is_no_evidence(tmp_path):
    """What an objective does better at both places is not what the place does."""
    every = shifts(places(tmp_path, {**FIRST, "ar": 0.5, "reversed": 0.5}, {**FIRST, "ar": 0.5, "reversed": 0.5}))
    assert {one.verdict for one in every.values()} == {positions.UNDECIDED}


def test_what_speaks_against_it_is_said(tmp_path):
    every = shifts(places(tmp_path, FIRST, {**FIRST, "mdc": 0.5}))
    assert every[0.0, "early", "ar"].verdict == positions.OPPOSITE


def test_p_is_that_of_a_paired_test_adjusted_over_all_lines(tmp_path):
    every = shifts(places(tmp_path, FIRST, {**FIRST, "ar": 0.898, "reversed": 0.698}))
    one = every[0.0, "early", "ar"]
    own, theirs = ([one.values[name][seed] for seed in range(3)] for name in ("mdc", "ar"))
    assert one.difference.p == pytest.approx(scipy.stats.ttest_rel(own, theirs).pvalue)
    assert min(one.adjusted_p for one in every.values()) == pytest.approx(
        len(every) * min(one.difference.p for one in every.values())
    )


def test_the_report_joins_all_places(tmp_path):
    folder = fakes.epath.Path(tmp_path)
    every = [*places(tmp_path), *places(tmp_path, more=",redundancy=0.8")]
    _, paragraph, moved, table, *pictures = positions.blocks(every, folder)
    assert "Of 8 differences below 8 as the paper argues, 0 the opposite, 0 not decided" in paragraph.text
    assert {row[0] for row in moved.rows} == {"0", "0.8"} and moved.rows[0][3] == "ar"
    assert [row[:2] for row in table.rows[:5]] == [
        *(["background first, redundancy 0", entry] for entry in ENTRIES),
        ["background last, redundancy 0", "mdc"],
    ]
    assert len(table.rows) == 16 and all((folder / f"{picture.name}.pdf").exists() for picture in pictures)
    assert b"background last, redundancy 0.8" in pictures[1].svg


@pytest.mark.parametrize(
    "base",
    [
        "scenes.py:sentences=2,background=first",  # twice the same
        "scenes.py:sentences=2,redundancy=0.8,background=last",  # no redundancy has both
        "scenes.py:sentences=2",  # states no background
        "scenes.py:sentences=4,background=last",
    ],
)
def test_what_are_not_two_places_of_one_comparison_is_refused(tmp_path, base):
    first = found(tmp_path / "own", "scenes.py:sentences=2,background=first", FIRST)
    with pytest.raises(ConfigError, match=r"--beside: .* must state the background first and last"):
        positions.blocks([first, found(tmp_path, base, LAST)], tmp_path)


def test_ratios_are_held_against_one_other_comparison(tmp_path):
    every = [found(tmp_path, name, FIRST) for name in ("a", "b", "c")]
    with pytest.raises(ConfigError, match=r"--beside: masking ratios .* give one folder"):
        report._on_other_data(every[0], every[1:], tmp_path)
