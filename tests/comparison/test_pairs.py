"""More training pairs: a line for each objective, which are held against each other at equal numbers alone."""

import numpy as np
import pytest
import scipy.stats

from mdc_jax.comparison import claims, findings, headlines, pairs
from mdc_jax.comparison.findings import Findings, Measure, Point, Run
from mdc_jax.report import tables
from tests.comparison import fakes

NOISE = (-0.01, 0.0, 0.02)  # of three seeds
MEANS = {("masked_diffusion", "4k"): 0.9, ("autoregressive", "4k"): 0.8, ("masked_diffusion", "1k"): 0.5}
FEW = {("autoregressive", "1k"): 0.6}


def found(tmp_path, means):
    """A comparison as `findings.read` gives it: a probe of one family, where noise grows with the mean."""
    measure, curves, runs, entries = Measure("probe", "probe.csv", "shape"), {}, [], []
    for (objective, count), mean in means.items():
        name = f"{objective}_{count}"
        settings = [f"data.train=subset:{count}:scenes:train", "evaluators.probe.baselines=False"]
        entries.append({"name": name, "objective": objective, "control": False, "settings": settings})
        for seed, noise in enumerate(NOISE):
            folder = fakes.epath.Path(tmp_path) / name / f"seed{seed}"
            path = folder / "evaluations" / "100" / "probe" / "probe.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            tables.write_csv(path, ("family", "bound"), [["shape", 0]])
            curves.setdefault(name, {})[seed] = (Point(100, 0.0, 0.0, 0.0, mean * (1 + noise)),)
            runs.append(Run(name, seed, folder, "", 100))
    return Findings({"base": "scenes", "entries": entries}, tuple(runs), {measure: curves})


def test_objectives_are_held_against_each_other_at_equal_numbers(tmp_path):
    _, picture, table = pairs.blocks(found(tmp_path, MEANS | FEW), fakes.epath.Path(tmp_path))
    rows = {(pair, words): text for _, pair, words, text, _ in table.rows}
    first, other = ([MEANS[o, "4k"] * (1 + n) for n in NOISE] for o in ("masked_diffusion", "autoregressive"))
    low, high = scipy.stats.ttest_rel(first, other).confidence_interval(0.95)
    assert f"[{low:+.3f}, {high:+.3f}]" in rows["4,000", "masked_diffusion less autoregressive"]
    assert rows["1,000", "masked_diffusion less autoregressive"].startswith("-0.100")
    assert rows["", "autoregressive: 4,000 less 1,000 pairs"].startswith("+0.201")
    assert len(rows) == 4 and (tmp_path / f"{picture.name}.pdf").exists()


def test_a_number_that_one_objective_lacks_is_left_out_of_differences(tmp_path):
    _, _, table = pairs.blocks(found(tmp_path, MEANS), fakes.epath.Path(tmp_path))
    assert [(pair, words) for _, pair, words, *_ in table.rows] == [("", "masked_diffusion: 4,000 less 1,000 pairs")]


def test_claims_are_made_at_the_number_of_the_first_entry_alone(tmp_path):
    comparison = found(tmp_path, MEANS | FEW)
    assert {claim.other for claim in headlines.claims(comparison)} == {"autoregressive_4k"}
    (said,) = [row[1] for row in claims.table(comparison).rows if "number of pairs" in row[0]]
    assert said.count("4,000 less 1,000 pairs = +") == 2 and "masked_diffusion_4k less" not in said


def test_intervals_are_those_of_a_line(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(pairs.panels, "with_intervals", lambda lines, x, y: drawn.update(lines))
    monkeypatch.setattr(pairs.panels, "save", lambda figure, path: b"")
    pairs.blocks(found(tmp_path, MEANS | FEW), fakes.epath.Path(tmp_path))
    values = 0.5 * (1 + np.array(NOISE))
    half = scipy.stats.sem(values) * scipy.stats.t.ppf(0.975, 2)
    assert drawn["masked_diffusion"][:, 0].tolist() == [1000, 4000]
    assert drawn["masked_diffusion"][0, 1:] == pytest.approx(
        [values.mean(), values.mean() - half, values.mean() + half]
    )


def test_one_number_of_pairs_is_no_line(tmp_path):
    same = {("masked_diffusion", "4k"): 0.9, ("autoregressive", "4k"): 0.8}
    assert pairs.blocks(found(tmp_path, same), fakes.epath.Path(tmp_path)) == []
    assert pairs.blocks(findings.read(fakes.comparison(tmp_path / "other")), fakes.epath.Path(tmp_path)) == []
