"""The report says what the numbers say, in every format, and opens in a real browser where there is one."""

import dataclasses
import json
import shutil
import subprocess
import types
from concurrent import futures

import numpy as np
import pytest
import scipy.stats

from mdc_jax.comparison import claims, findings, headlines, predictions, report, result_tables, significance, terms
from mdc_jax.config import ConfigError
from mdc_jax.report import document, tables
from tests.comparison import fakes
from tests.report.test_html import Reader

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

PROBE = "probe: what is in the image"


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return fakes.comparison(tmp_path_factory.mktemp("comparison"))


@pytest.fixture(scope="module")
def found(workdir):
    return findings.read(workdir)


@pytest.fixture(scope="module")
def folder(workdir):
    return report.write(workdir)


def test_entries_are_those_of_the_plan_and_controls_claim_nothing(found):
    assert found.entries == ("mdc", "ar", "contrast", "blind") and found.controls == {"blind"}
    assert len(found.runs) == 8  # the ninth of the plan has no result yet
    assert not any("raw pixels" in measure.metric for measure in found.curves)


def test_the_table_of_entries_says_what_was_extended_and_what_diverged(found):
    plan = {**found.plan, "runs": [dict(run) for run in found.plan["runs"]]}
    first, last = plan["runs"][1], plan["runs"][-1]
    first["starts"] = [{**start, "code": {}, "hardware": {}} for start in ({}, {"steps": 50}, {"steps": 100})]
    last["diverged"] = "step 3: loss nan"
    rows = {row[0]: row for row in terms.tables_of(dataclasses.replace(found, plan=plan))[0].rows}
    assert (rows["mdc"][3], rows["mdc"][4]) == ("0 1 2", "100 (50 first)")
    assert (rows["contrast"][3], rows["contrast"][4]) == ("0 1 (diverged)", "100")


def test_the_table_of_entries_says_what_training_took(found):
    plan = {**found.plan, "entries": [{**entry, "parameters": 1_234_567} for entry in found.plan["entries"]]}
    table = terms.tables_of(dataclasses.replace(found, plan=plan))[0]
    costs = dict(zip(table.header, next(row for row in table.rows if row[0] == "mdc"), strict=True))
    points = [points[-1] for by_entry in found.curves.values() for points in by_entry["mdc"].values()]
    assert costs["parameters"] == "1,234,567" and costs["images"] == f"{points[0].examples:,.0f}"
    assert float(costs["GFLOP an image"]) == pytest.approx(points[0].flops / points[0].examples / 1e9, rel=5e-3)


def test_claims_are_paired_by_seed_and_adjusted_together(found):
    claimed = {(claim.task, claim.other): claim for claim in headlines.claims(found)}
    shape = claimed[PROBE, "ar"]
    pairs = fakes.SHAPE["mdc"], fakes.SHAPE["ar"]
    assert shape.difference.p == pytest.approx(scipy.stats.ttest_rel(*pairs).pvalue)
    assert shape.adjusted_p == pytest.approx(shape.difference.p * len(claimed))  # the smallest of all
    assert shape.verdict == significance.BETTER
    assert claimed["probe: what belongs together, and where it stands", "ar"].verdict == significance.AS_GOOD
    alone = claimed[PROBE, "contrast"]
    assert (alone.difference.seeds, alone.verdict) == (1, significance.UNDECIDED)
    foils = claimed["foils: foils, both directions", "ar"]
    assert foils.difference.mean == pytest.approx(0.1) and foils.verdict == significance.UNDECIDED
    assert {other for _, other in claimed} == {"ar", "contrast"}


def test_a_run_counts_where_it_is_at_the_last_step_of_its_entry(workdir, tmp_path):
    """As one that was stopped, or that an extension of the comparison has not reached yet."""
    copy = fakes.epath.Path(shutil.copytree(workdir, tmp_path / "copy"))
    lines = (copy / "results.csv").read_text().splitlines(keepends=True)
    left = [line for line in lines if not line.startswith("ar,2,100,")]
    assert len(left) < len(lines)
    (copy / "results.csv").write_text("".join(left))
    stopped, cut = (copy / "runs" / "ar" / f"seed{seed}" / "results.json" for seed in (2, 1))
    stopped.write_text('{"step": 50}')
    found = findings.read(copy)
    assert [run.seed for run in found.runs if run.entry == "ar"] == [0, 1]
    kept = cut.read_text()
    cut.unlink()  # while it was evaluated at its end
    assert [run.seed for run in findings.read(copy).runs if run.entry == "ar"] == [0]
    cut.write_text(kept)
    assert all(2 not in by_entry.get("ar", {}) for by_entry in found.curves.values())
    assert "7 of 9 runs are finished" in (report.write(copy) / "report.md").read_text()
    planned = json.loads((copy / "plan.json").read_text())
    for entry in planned["entries"]:
        entry["trained_steps"] = 200 if entry["name"] == "ar" else None  # a part says nothing of others' entries
    (copy / "plan.json").write_text(json.dumps(planned))
    assert {run.entry for run in findings.read(copy).runs} == {"mdc", "contrast", "blind"}
    planned["budget"]["steps"] = 200
    (copy / "plan.json").write_text(json.dumps(planned))
    assert "None of 9 runs is finished yet." in (report.write(copy) / "report.md").read_text()


def test_a_report_begins_with_what_diverged(workdir, tmp_path):
    copy = fakes.epath.Path(shutil.copytree(workdir, tmp_path / "copy"))
    planned = json.loads((copy / "plan.json").read_text())
    (unfinished,) = [run for run in planned["runs"] if (run["entry"], run["seed"]) == ("contrast", 1)]
    unfinished["diverged"] = "step 3: loss nan"
    (copy / "plan.json").write_text(json.dumps(planned))
    introduction = (report.write(copy) / "report.md").read_text().partition("## What was found")[0]
    assert "stands in" not in introduction
    assert "8 of 9 runs are finished" in introduction and "diverged: contrast/seed1;" in introduction


def test_reports_that_are_written_at_the_same_moment_leave_a_whole_one(tmp_path):
    folder = fakes.epath.Path(tmp_path) / report.FOLDER

    def put(number):
        for turn in range(30):
            written = fakes.epath.Path(tmp_path) / f"{number}_{turn}"
            written.mkdir()
            for name in "abc":
                (written / name).write_text(f"{number}")
            try:
                report._move(written, folder)
            except OSError:  # three times in a row: the other's is as new
                shutil.rmtree(written)

    with futures.ThreadPoolExecutor() as pool:
        list(pool.map(put, range(2)))
    assert len({path.read_text() for path in folder.iterdir()}) == 1 and len(list(folder.iterdir())) == 3


def test_headings_over_nothing_are_left_out():
    empty = document.Table("empty", "Of nothing.", ["a"], [])
    blocks = [document.Heading("Bare"), empty, document.Heading("Also bare"), document.Heading("Full")]
    text = document.markdown("Some", [*blocks, empty, document.Paragraph("This."), document.Heading("Last"), empty])
    assert [line for line in text.splitlines() if line] == ["# Some", "## Full", "This."]


def test_what_was_evaluated_on_the_way_alone_is_not_taken_for_the_end(workdir, tmp_path):
    copy = fakes.epath.Path(shutil.copytree(workdir, tmp_path / "copy"))
    lines = (copy / "results.csv").read_text().splitlines(keepends=True)
    left = [line for line in lines if not (line.startswith("ar,1,100,") and ",captions," in line)]
    (copy / "results.csv").write_text("".join(left))
    found = findings.read(copy)
    (right,) = found.measures("captions.jsonl")
    assert set(found.last(right)["ar"]) == {0, 2} and len(found.runs) == 8


def _with_entries(found, *entries):
    """The same findings of a plan with other entries too, which have the values of ar."""
    every = [{"control": False, "settings": [], **entry} for entry in entries]
    curves = {
        measure: {**by_entry, **{entry["name"]: by_entry["ar"] for entry in every if "ar" in by_entry}}
        for measure, by_entry in found.curves.items()
    }
    plan = {**found.plan, "entries": [*found.plan["entries"], *every]}
    own = [dataclasses.replace(run, entry=entry["name"]) for entry in every for run in found.runs if run.entry == "ar"]
    return dataclasses.replace(found, plan=plan, runs=(*found.runs, *own), curves=curves)


def test_files_of_an_earlier_step_are_not_taken_for_the_end(workdir, tmp_path):
    """As `evaluate --step=50` leaves them, of an evaluator that was not run at the end."""
    copy = fakes.epath.Path(shutil.copytree(workdir, tmp_path / "copy"))
    last = copy / "runs" / "ar" / "seed0" / "evaluations" / "100"
    for evaluator in ("foils", "captions"):
        shutil.copytree(last / evaluator, last.parent / "50" / f"early_{evaluator}")
    found = findings.read(copy)
    assert not [name for name in found.files("foils.csv") if name.startswith("early")]
    assert not [where for where, *_ in predictions.differences(found) if where.startswith("early")]


def test_a_cell_of_fewer_seeds_than_its_row_says_so(workdir, tmp_path):
    copy = fakes.epath.Path(shutil.copytree(workdir, tmp_path / "copy"))
    lines = (copy / "results.csv").read_text().splitlines(keepends=True)
    left = [line for line in lines if not line.startswith("mdc,2,100") or ",captions," not in line]
    assert len(left) == len(lines) - 1
    (copy / "results.csv").write_text("".join(left))
    table = result_tables.of_tasks(findings.read(copy))
    (row,) = (dict(zip(table.header, row, strict=True)) for row in table.rows if row[0] == "mdc")
    assert row["seeds"] == "3" and [name for name, cell in row.items() if cell.endswith("(seeds: 2)")] == [
        "captions: every claim right"
    ]


def test_comparisons_on_other_terms_are_not_held_against_each_other(workdir, tmp_path):
    copy = fakes.epath.Path(shutil.copytree(workdir, tmp_path / "copy"))
    planned = json.loads((copy / "plan.json").read_text())
    planned["settings"], planned["entries"][1]["settings"] = ["optimizer.lr=1e-9"], ["objective.order=right_to_left"]
    planned["budget"]["steps"] = 200
    (copy / "plan.json").write_text(json.dumps(planned))
    with pytest.raises(ConfigError, match=r"differ in more than their data: settings, budget, entries\.ar;"):
        report.write(workdir, [copy])


def test_what_a_report_was_made_with_is_not_what_its_runs_were(found):
    first = found.plan["runs"][0]
    start = {"code": {"commit": "aaaa"}, "hardware": {"devices": "1 x loom"}}
    plan = {**found.plan, "runs": [{**first, "starts": [start, start]}, *found.plan["runs"][1:]]}
    *_, table = terms.tables_of(dataclasses.replace(found, plan=plan))
    said = dict(table.rows)
    assert json.loads(said["code (runs: 1)"]) == start["code"] and "c0ffee" in said["code, of this report"]
    assert json.loads(said["hardware (runs: 1)"]) == start["hardware"]


def test_claims_are_of_one_entry_of_each_other_objective(found):
    more = _with_entries(
        found,
        {"name": "other_interval", "objective": "masked_diffusion"},
        {"name": "right_to_left", "objective": "autoregressive"},
    )
    assert {claim.other for claim in headlines.claims(more)} == {"ar", "contrast"}
    assert {"other_interval", "right_to_left"} < headlines.to_first(more, headlines.answers(more, _probe(more))).keys()
    alone = dataclasses.replace(more, plan={**more.plan, "entries": [more.plan["entries"][i] for i in (0, 4)]})
    assert {claim.other for claim in headlines.claims(alone)} == {"other_interval"}


def test_nothing_is_claimed_between_entries_of_other_training_pairs(found):
    more = _with_entries(
        found, {"name": "fewer", "objective": "cappa", "settings": ["data.train=subset:1k:scenes:train"]}
    )
    assert "fewer" not in more.others and "fewer" not in {claim.other for claim in headlines.claims(more)}


def _probe(found):
    return next(task for task in headlines.tasks(found) if task.name == PROBE)


def test_a_probe_that_watches_the_course_claims_nothing_beside_one_of_the_end(found):
    assert [task.name for task in headlines.tasks(found)][:2] == ["curve: what is in the image", PROBE]
    assert not any(claim.task.startswith("curve") for claim in headlines.claims(found))


def test_a_course_has_all_that_training_had_cost(found):
    task = headlines.tasks(found)[0]
    (early, late) = headlines.curves(found, task)["ar"][1]
    assert tuple(late) == pytest.approx((100, 1000, 1e8, 25, 0.82))
    assert early.value == pytest.approx(0.41)


def test_predictions_are_paired_example_by_example(found):
    rows = {
        (asked, other): (seeds, n, interval) for _, asked, other, seeds, n, interval in predictions.differences(found)
    }
    seeds, n, (mean, low, high) = rows["right", "ar"]
    assert (seeds, n, mean) == (3, 4, 0.25) and low == 0 and high == pytest.approx(0.75, abs=0.26)


def test_lines_of_every_evaluator_are_read_and_the_first_scorer_counts(tmp_path):
    path = fakes.epath.Path(tmp_path) / "some.jsonl"
    path.write_text(
        '{"kind": "swap", "index": 3, "scorers": {"a": {"right": {"accuracy": 0.5}}, "b": {"right": {}}}}\n'
        '{"id": 7, "family": "shape", "probe": "logistic/pooled", "right": 1}\n{"id": 7, "score": 0.2}\n'
        '{"id": 7, "metric": "elbo/text_to_image", "right": true, "rank": 1}\n'
        '{"id": 7, "metric": "elbo/text_to_image", "right": false, "rank": 2}\n'
        '{"id": 7, "metric": "one_pass/text_to_image", "right": true, "rank": 1}\n'
    )
    assert predictions.read(path) == {
        "swap": {"3": 0.5},
        "shape/logistic/pooled": {"7": 1.0},
        "text_to_image": {"7": 0.5},
    }


def test_the_papers_claims_are_held_against_all_entries_and_unmeasured_ones_say_so(found):
    rows = {row[0][:20]: row[1] for row in claims.table(found).rows}
    features, position, ratio, pairs, aro = rows.values()
    # Not the signal, of which ar has more everywhere, but what becomes of it from the first third to the last.
    assert position == (
        "signal/last_less_first: mdc -0.100; ar -0.600. mdc less ar = +0.500 (the same for all seeds). "
        "gradient/last_less_first: mdc 0.100; ar 0.100. mdc less ar = +0.000 (the same for all seeds)."
    )
    assert features.startswith("mdc 0.910 [") and "contrast 0.950;" not in features and "contrast 0.950" in features
    assert "mdc less ar = +0.100 [" in features and "interval excludes 0" in features
    assert "mdc less contrast = -0.050 (one seed: no interval)" in features
    assert ratio == pairs == claims.NOT_MEASURED
    assert "ar 0.650 [" in aro and "contrast" not in aro


def test_the_papers_claims_are_not_held_against_controls_nor_a_single_ratio(found):
    permuted = {"name": "permuted", "objective": "masked_diffusion", "control": True}
    lm_40 = {"name": "lm_40", "objective": "masked_lm", "settings": ["objective.ratio=0.4"]}
    lm_70 = {"name": "lm_70", "objective": "masked_lm", "settings": ["objective.ratio=0.7"]}
    features, _, one_ratio, *_ = (row[1] for row in claims.table(_with_entries(found, permuted, lm_40)).rows)
    assert "permuted" not in features and "lm_40 " in features and one_ratio == claims.NOT_MEASURED
    _, _, ratios, *_ = (row[1] for row in claims.table(_with_entries(found, permuted, lm_40, lm_70)).rows)
    assert "lm_70 " in ratios and "permuted" not in ratios


def test_the_papers_claims_say_whether_they_are_not_asked_or_not_answered_yet(found):
    ratios = [
        {"name": f"lm_{ratio}", "objective": "masked_lm", "settings": [f"objective.ratio=.{ratio}"], "control": False}
        for ratio in (40, 70)
    ]
    entries = [found.plan["entries"][0], *ratios]
    plan = {**found.plan, "entries": entries, "evaluators": {"probe": {"type": "linear_probe"}}}
    features, _, one_ratio, pairs, aro = (row[1] for row in claims.table(dataclasses.replace(found, plan=plan)).rows)
    assert features == pairs == claims.NOT_MEASURED  # no autoregression and no CLIP here, and one number of pairs
    assert one_ratio == claims.NOT_YET and "mdc" in aro


def test_the_first_table_has_each_task_of_each_entry(folder):
    rows = {row[""]: row for row in tables.read_csv(folder / "tasks.csv")}
    half = scipy.stats.sem(fakes.SHAPE["mdc"]) * scipy.stats.t.ppf(0.975, 2)
    assert rows["mdc"][PROBE] == tables.interval(0.91, 0.91 - half, 0.91 + half) and rows["mdc"]["seeds"] == "3"
    assert rows["contrast"][PROBE] == "0.950" and rows["contrast"]["foils: foils, both directions"] == ""
    text = (folder / "report.md").read_text()
    assert text.index("## What was found") < text.index("## Differences") and "curve: " not in "".join(rows["mdc"])


def test_captions_say_what_intervals_and_verdicts_leave_open(folder, found):
    text = (folder / "report.md").read_text()
    lines = len(headlines.claims(found))
    error = scipy.stats.t.isf(0.05 / (2 * lines), 2)
    assert f"the clearest of {lines} lines has to differ by {error:.1f} standard errors of 3 seeds" in text
    assert "it does not say what other seeds would give" in text
    assert "beside the mean of p over 16 training images, also where visible words contradict these" in text
    assert "by the mean over 16 training images (rough: take 64 or more) or a decoder trained without" in text


def test_a_report_that_is_written_again_has_what_was_measured_since(workdir, monkeypatch, capsys):
    read = []
    monkeypatch.setattr(report.collect, "write", read.append)
    monkeypatch.setattr(report, "flags", types.SimpleNamespace(FLAGS=types.SimpleNamespace(workdir=workdir, beside=[])))
    report.main([])
    assert read == [workdir] and "## What was found" in capsys.readouterr().out


def test_tables_have_the_same_numbers_in_all_formats(folder):
    rows = tables.read_csv(folder / "probes_probe_free.csv")
    values = fakes.SHAPE["mdc"]
    half = scipy.stats.sem(values) * scipy.stats.t.ppf(0.975, 2)
    shape = {row[""]: row["shape (auc)"] for row in rows}
    assert shape["mdc, pooled"] == tables.interval(np.mean(values), np.mean(values) - half, np.mean(values) + half)
    assert shape["raw pixels, pooled"].startswith("0.500") and "blind, pooled" not in shape
    for name in ("report.html", "report.md", "probes_probe_free.tex"):
        assert shape["mdc, pooled"] in (folder / name).read_text().replace("\N{NO-BREAK SPACE}", " ")
    foils = {row[""] for row in tables.read_csv(folder / "foils_foils.csv")}
    assert {"mdc (elbo), blind: images", "mdc (elbo), less 1 x images", "ar (autoregressive)"} <= foils
    rates = tables.read_csv(folder / "learning_rates.csv")
    assert (rates[0]["0.001"], rates[0]["0.01"]) == ("0.7500 (taken)", "diverged")
    commands = tables.read_csv(folder / "commands.csv")
    assert {row["tables"] for row in commands if row["entry"] == "contrast"} == {"all", "curve", "probe"}
    assert next(row["command"] for row in commands if row["seed"] == "2") == "train mdc/seed2"
    assert "c0ffee" in (folder / "provenance.csv").read_text()


def test_the_page_is_whole_and_figures_are_there_twice(folder):
    page = Reader((folder / "report.html").read_text())
    assert not page.open and all(source.startswith("data:image/svg") for source in page.sources)
    assert ("p", "No controls <here>.") in page.texts
    text = (folder / "report.md").read_text()
    figures = {path.stem for path in folder.glob("*.svg")}
    assert figures == {path.stem for path in folder.glob("*.pdf")} and len(figures) == len(page.sources) == 9
    assert all(f"({name}.svg)" in text for name in figures)


def test_a_part_that_has_controls_alone_has_a_report_too(workdir, tmp_path):
    part = fakes.epath.Path(shutil.copytree(workdir, tmp_path / "part"))
    header, *lines = (part / "results.csv").read_text().splitlines(keepends=True)
    (part / "results.csv").write_text(header + "".join(line for line in lines if line.startswith("blind,")))
    (part / report.FOLDER).mkdir(exist_ok=True)
    (part / report.FOLDER / "figure_of_before.svg").touch()
    folder = report.write(part)
    assert not (folder / "figure_of_before.svg").exists() and not list(part.glob(f".{report.FOLDER}*"))
    text = (folder / "report.md").read_text()
    assert "blind, and beside it nothing." in text
    assert "mdc, which is to be the first, has no finished run: blind stands in." in text


def test_what_is_no_comparison_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"has no plan\.json: give the --workdir of"):
        findings.read(fakes.epath.Path(tmp_path))


@pytest.mark.skipif(CHROMIUM is None, reason="not run: no Chromium on this machine")
def test_a_browser_shows_every_table_and_figure(folder):
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", f"file://{folder}/report.html"]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert dom.count("<table>") == len(list(folder.glob("*.csv"))) and dom.count("<img") == 9
    assert "interval excludes 0" in dom
