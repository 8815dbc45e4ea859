"""Learning rates, budgets, parts and errors: what is decided before anything is trained."""

import json
import types

import pytest
from etils import epath

from mdc_jax import lock
from mdc_jax.comparison import (
    budget,
    collect,
    costs,
    entries,
    execution,
    merge,
    plan,
    recipe,
    sequence,
    settings,
    tuning,
)
from mdc_jax.comparison.settings import Entry, Tuning
from mdc_jax.config import ConfigError, dumps, evaluator
from mdc_jax.report import metrics_file
from mdc_jax.training import loop
from mdc_jax.training.train_log import NonFiniteError
from tests.comparison import tiny

WORKDIR = epath.Path("/nowhere")


def _comparison(own=None, **changed):
    config = tiny.comparison(100)
    with config.unlocked():
        if own:
            found = recipe.comparison(entries=own, evaluators={}, base=tiny.FILE, steps=100)
            config.entries, config.order = found.entries, found.order
        for key, value in changed.items():
            config[key] = value
    return settings.parse(config)


def test_the_grid_is_widened_at_its_edge_alone():
    assert tuning.beyond([0.1, 0.3, 0.9], {0.1: 1.0, 0.3: 2.0, 0.9: 1.5}) is None
    assert tuning.beyond([0.1, 0.3, 0.9], {0.1: 1.0, 0.3: 2.0, 0.9: 2.5}) == pytest.approx(2.7)
    assert tuning.beyond([0.1, 0.3, 0.9], {0.1: 3.0, 0.3: 2.0, 0.9: 2.5}) == pytest.approx(0.0333)
    assert tuning.beyond([0.1, 0.3], dict.fromkeys([0.1, 0.3], float("-inf"))) == pytest.approx(0.0333)


def test_the_best_rate_is_chosen_and_written_with_its_grid(tmp_path, monkeypatch, capsys):
    tried = []

    def score(comparison, folder, name, rate, steps):
        tried.append(rate)
        return float("-inf") if rate > 0.02 else -abs(rate - 0.009)

    monkeypatch.setattr(tuning, "_score", score)
    found = _comparison(
        tuning=recipe.comparison(entries={"a": Entry()}, evaluators={}, tuning=Tuning((0.001, 0.003))).tuning
    )
    choice = tuning.choose(found, epath.Path(tmp_path), "masked_diffusion", steps=5)
    assert tried == [0.001, 0.003, 0.009, 0.027]
    assert (choice["chosen"], choice["at_edge"], choice["grid"]["0.027"]) == (0.009, False, None)
    assert "**0.009**" in capsys.readouterr().out
    assert json.loads((tmp_path / "tuning" / "masked_diffusion" / "choice.json").read_text()) == choice
    assert plan.learning_rate(found, "masked_diffusion", epath.Path(tmp_path)) == (0.009, "tuned")


def test_a_grid_that_diverges_as_a_whole_chooses_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "_score", lambda *arguments: float("-inf"))
    found = _comparison(
        tuning=recipe.comparison(entries={"a": Entry()}, evaluators={}, tuning=Tuning((0.001, 0.003))).tuning
    )
    with pytest.raises(ConfigError, match="masked_diffusion diverges at every learning rate that was tried, 3"):
        tuning.choose(found, epath.Path(tmp_path), "masked_diffusion", steps=5)
    assert not (tmp_path / "tuning").exists()


def test_tuning_reads_no_test_example():
    found = _comparison()
    config = entries.config_of(found, "autoregressive", seed=1000, steps=4, lr=0.01, evaluators={})
    config = tuning._probed_on_validation(config, found.tuning.probe)
    assert config.evaluators["probe"].test == config.data.validation != config.data.test
    assert (config.optimizer.lr, config.seed, set(config.evaluators)) == (0.01, 1000, {"probe"})


@pytest.mark.parametrize(("equal", "expected"), [("steps", 100), ("flops", 50), ("seconds", 40)])
def test_entries_have_in_equal_amounts_what_is_asked_for(tmp_path, monkeypatch, equal, expected):
    workdir, costs = (
        epath.Path(tmp_path),
        {
            "masked_diffusion": {"flops_per_step": 1e6, "step_seconds": 0.2},
            "autoregressive": {"flops_per_step": 2e6, "step_seconds": 0.5},
        },
    )

    def measure(comparison, workdir, name):
        folder = workdir / "timing" / name
        folder.mkdir(parents=True, exist_ok=True)
        reference = {} if name == "masked_diffusion" else {"reference": costs["masked_diffusion"]}
        (folder / budget.TIMING_FILE).write_text(json.dumps(costs[name] | reference))
        return costs[name]

    monkeypatch.setattr(budget, "measure", measure)
    found = _comparison(equal=equal)
    assert budget.known(found, workdir) == ({} if equal != "steps" else dict.fromkeys(found.order, 100))
    assert budget.steps(found, workdir, ["autoregressive"]) == {"autoregressive": expected}
    both = {"masked_diffusion": 100, "autoregressive": expected}
    assert budget.steps(found, workdir, found.order) == both
    # The plan of a part says what is known of the others.
    plan.write(found, workdir, {"autoregressive": expected}, config="", overrides={})
    planned = json.loads((workdir / plan.PLAN_FILE).read_text())
    assert {entry["name"]: entry["trained_steps"] for entry in planned["entries"]} == both
    assert f"steps={expected}" in planned["runs"][1]["base"] and "steps=100" in planned["runs"][0]["base"]


def test_an_entry_is_held_against_the_first_one_of_its_own_machine(tmp_path, monkeypatch):
    seconds = {"masked_diffusion": 0.2, "autoregressive": 0.5}
    found = _comparison(equal="seconds")
    monkeypatch.setattr(sequence, "train", lambda runs: [folder.mkdir(parents=True) for folder in runs])
    monkeypatch.setattr(
        costs, "of", lambda folder, lines: types.SimpleNamespace(flops_per_step=1e6, step_seconds=seconds[folder.name])
    )
    part, whole = epath.Path(tmp_path) / "part", epath.Path(tmp_path) / "whole"
    expected = {"masked_diffusion": 100, "autoregressive": 40}
    assert budget.steps(found, part, found.order) == expected
    # Merged into a place whose own machine is ten times as slow.
    seconds["masked_diffusion"] = 2.0
    budget.steps(found, whole, ["masked_diffusion"])
    (part / "timing" / "autoregressive").rename(whole / "timing" / "autoregressive")
    assert budget.steps(found, whole, found.order) == expected


def test_a_cost_is_that_of_the_settings_it_was_measured_with(tmp_path, monkeypatch):
    monkeypatch.setattr(costs, "of", lambda *_: types.SimpleNamespace(flops_per_step=1e6, step_seconds=0.2))

    def train(runs):
        for folder, config in runs.items():
            folder.mkdir(parents=True)
            (folder / "config.json").write_text(dumps(config))
        return True

    monkeypatch.setattr(sequence, "train", train)
    workdir = epath.Path(tmp_path)
    rates = {"masked_diffusion": Entry(), "autoregressive": Entry("autoregressive", lr=0.02)}
    budget.steps(_comparison(rates, equal="flops"), workdir, ["masked_diffusion", "autoregressive"])
    other_rate = {"masked_diffusion": Entry(lr=0.01), "autoregressive": Entry("autoregressive")}
    assert budget.steps(_comparison(other_rate, equal="flops"), workdir, ["masked_diffusion", "autoregressive"])
    deeper = {**other_rate, "autoregressive": Entry("autoregressive", ("model.decoder.depth=3",))}
    with pytest.raises(
        ConfigError, match=r"timing/autoregressive holds another run:\n  model\.decoder\.depth: 1 → 3(?s:.*)remove this"
    ):
        budget.steps(_comparison(deeper, equal="flops"), workdir, ["masked_diffusion", "autoregressive"])


def test_others_cost_what_the_own_steps_of_the_first_entry_cost(tmp_path):
    for name, flops in (("mdc", 1e6), ("ar", 2e6)):
        folder = tmp_path / "timing" / name
        folder.mkdir(parents=True)
        found = {"flops_per_step": flops, "step_seconds": 1.0}
        (folder / budget.TIMING_FILE).write_text(json.dumps(found | {"reference": {**found, "flops_per_step": 1e6}}))
    found = _comparison(own={"mdc": Entry(steps=50), "ar": Entry("autoregressive")}, equal="flops")
    assert budget.known(found, epath.Path(tmp_path)) == {"mdc": 50, "ar": 25}


def test_parts_are_disjoint_and_keep_together_what_needs_each_other():
    own = recipe.with_controls(
        recipe.entries_of(("masked_diffusion", "autoregressive", "clip")), blind=("autoregressive",)
    )
    found = _comparison(own)
    parts = [plan.share(found, part, 2) for part in (1, 2)]
    assert parts == [["masked_diffusion", "clip", "permuted", "supervised"], ["autoregressive", "autoregressive_blind"]]
    # A decoder without images comes before what is scored with it.
    (blind, scored) = execution.choose(found, run="autoregressive/seed0")
    assert (blind.entry, scored.entry) == ("autoregressive_blind", "autoregressive")
    order = [run.entry for run in execution.choose(found)]
    assert order.index("autoregressive_blind") < order.index("autoregressive")
    assert plan.config_of(found, blind, WORKDIR, 100).objective.null_image_rate == 1.0
    assert plan.config_of(found, plan.Run("permuted", 0), WORKDIR, 100).data.permute_captions
    for only in ("3/2", "0/2", "half"):
        with pytest.raises(ConfigError, match="write PART/PARTS"):
            execution.choose(found, only=only)
    with pytest.raises(ConfigError, match="no entry is left for this part"):
        execution.choose(found, only="4/4")
    with pytest.raises(ConfigError, match="give one of them"):
        execution.choose(found, only="1/2", run="clip/seed0")
    with pytest.raises(ConfigError, match='did you mean "clip/seed0"'):
        execution.choose(found, run="clip/seed1")


def test_a_command_has_what_was_tuned_and_measured(tmp_path):
    found = _comparison({"a": Entry(lr=0.003), "b": Entry("clip", lr_of="a")}, equal="flops")
    command = plan.command_of(found, plan.Run("b", 0), epath.Path(tmp_path), {"b": 77}, "c.py", {"equal": "flops"})
    arguments = "--config=c.py --config.equal=flops --config.entries.b.lr=0.003 --config.entries.b.steps=77"
    assert command == f"python -m mdc_jax.compare {arguments} --run=b/seed0 --workdir=DIR"


def test_a_command_also_trains_the_decoder_without_images_as_it_was_trained(tmp_path):
    found = _comparison({"a": Entry(lr=0.003, blind="b"), "b": Entry(lr_of="a")}, equal="flops")
    command = plan.command_of(found, plan.Run("a", 0), epath.Path(tmp_path), {"a": 77, "b": 55}, "c.py", {})
    assert {"--config.entries.a.steps=77", "--config.entries.b.steps=55", "--config.entries.b.lr=0.003"} <= set(
        command.split()
    )


@pytest.mark.parametrize(
    ("own", "changed", "words"),
    [
        ({"a": Entry(blind="c"), "b": Entry()}, {}, 'entries.a.blind: there is no entry "c"'),
        ({"a": Entry(lr_of="b"), "b": Entry(lr_of="a")}, {}, '"b" has one itself'),
        ({"a b": Entry()}, {}, "write a letter"),
        (None, {"seeds": ()}, "needs entries and seeds"),
        (None, {"equal": "flops", "steps": 0}, "say how many"),
        (None, {"equal": "watts"}, "choose one of steps, flops, seconds"),
        (None, {"order": ("masked_diffusion",)}, "name each of the entries"),
    ],
)
def test_what_cannot_be_compared_is_refused(own, changed, words):
    with pytest.raises(ConfigError, match=words):
        _comparison(own, **changed)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("objective.intervall=(0.0, 1.0)", "does not fit the config"),
        ("objective.interval", "write KEY=VALUE"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_anything_is_trained(setting, words):
    found = _comparison({"a": Entry(settings=(setting,))})
    with pytest.raises(ConfigError, match=words):
        execution.check(found, execution.choose(found))


def test_a_setting_of_an_evaluator_that_there_is_not_is_refused():
    found = _comparison(settings=("evaluators.prob.families=('shape',)",))
    with pytest.raises(ConfigError, match=r'families: there is no evaluator "prob".*"probe"'):
        execution.check(found, execution.choose(found))


def test_what_is_trained_elsewhere_is_refused_before_anything_is_trained():
    found = _comparison(steps=0, settings=("duration=800 examples",))
    with pytest.raises(ConfigError, match="with --plan it prints the commands"):
        execution.check(found, execution.choose(found))


def test_a_run_that_diverges_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
    own = recipe.with_controls(recipe.entries_of(("masked_diffusion", "autoregressive")), blind=("masked_diffusion",))
    kept = {name: own[name] for name in ("masked_diffusion", "autoregressive", "masked_diffusion_blind")}
    found = _comparison(kept, evaluators={"perplexity": evaluator("perplexity")})
    trained = {}

    def train(config, workdir):
        trained[workdir.parent.name] = config
        (workdir / loop.CONFIG_FILE).write_text(dumps(config))
        if workdir.parent.name == "masked_diffusion_blind":
            raise NonFiniteError("step 3: loss nan")
        (workdir / metrics_file.RESULTS_FILE).write_text(json.dumps({"step": 100, "results": {}}))
        return {}

    monkeypatch.setattr(loop, "train", train)
    monkeypatch.setattr(collect, "write", lambda workdir: 0)
    workdir, runs = epath.Path(tmp_path), execution.choose(found)
    assert execution.execute(found, workdir, runs, config="", overrides={})
    assert list(trained) == ["masked_diffusion_blind", "masked_diffusion", "autoregressive"]
    assert "given up: step 3: loss nan" in capsys.readouterr().out
    # What was to be scored beside it is scored without it.
    assert trained["masked_diffusion"].evaluators["perplexity"].blind_workdir == ""
    planned = json.loads((workdir / plan.PLAN_FILE).read_text())["runs"]
    assert {run["entry"]: run["diverged"] for run in planned} == {
        "masked_diffusion_blind": "step 3: loss nan",
        "masked_diffusion": "",
        "autoregressive": "",
    }
    trained.clear()
    assert execution.execute(found, workdir, runs, config="", overrides={}) and not trained
    # What another comparison says of these runs is not written over it.
    other = _comparison(kept, evaluators={"perplexity": evaluator("perplexity")}, settings=("data.batch_size=4",))
    with pytest.raises(ConfigError, match=r"data\.batch_size: 8 → 4"):
        execution.execute(other, workdir, runs, config="", overrides={})
    assert json.loads((workdir / plan.PLAN_FILE).read_text())["settings"] == []


def test_a_part_does_not_go_beside_runs_of_another_comparison(tmp_path, monkeypatch):
    """Its report would hold them against each other: not those that the part has are looked at alone."""
    trained = []

    def train(config, workdir):
        trained.append(workdir.parent.name)
        (workdir / loop.CONFIG_FILE).write_text(dumps(config))
        (workdir / metrics_file.RESULTS_FILE).write_text(json.dumps({"step": 100, "results": {}}))
        return {}

    monkeypatch.setattr(loop, "train", train)
    monkeypatch.setattr(collect, "write", lambda workdir: 0)
    found, workdir = _comparison(), epath.Path(tmp_path)
    assert execution.execute(found, workdir, execution.choose(found, only="1/2"), config="", overrides={})
    other = _comparison(settings=("data.batch_size=4",))
    with pytest.raises(ConfigError, match=r"data\.batch_size: 8 → 4"):
        execution.execute(other, workdir, execution.choose(other, only="2/2"), config="", overrides={})
    assert json.loads((workdir / plan.PLAN_FILE).read_text())["settings"] == []
    longer = _comparison(steps=200)  # a part may be extended before the others are
    for comparison in (found, longer):
        runs = execution.choose(comparison, only="2/2")
        assert execution.execute(comparison, workdir, runs, config="", overrides={})
    assert trained == ["masked_diffusion", "autoregressive", "autoregressive"]


def _tuned(source, step, ended, steps=None):
    """A folder of a comparison with a run of a grid that got so far, and what was chosen where the grid was done."""
    run = source / "tuning" / "a" / "lr0.1" / "seed1000"
    run.mkdir(parents=True, exist_ok=True)
    (source / plan.PLAN_FILE).write_text(json.dumps({"base": "", "settings": [], "evaluators": {}, "budget": {}}))
    (run / "metrics.jsonl").write_text(json.dumps({"step": step}) + "\n")
    if ended:
        (run / metrics_file.RESULTS_FILE).write_text("{}")
    if steps:
        (source / "tuning" / "a" / tuning.CHOICE_FILE).write_text(json.dumps({"steps": steps}))


def test_what_got_further_is_taken_by_a_second_merge_too(tmp_path):
    part, whole = tmp_path / "part", tmp_path / "whole"
    run, choice = whole / "tuning" / "a" / "lr0.1" / "seed1000", whole / "tuning" / "a" / tuning.CHOICE_FILE
    _tuned(part, 5, ended=False)
    assert len(merge.merge([part], whole)) == 1 and not choice.exists()
    _tuned(part, 9, ended=False)
    merge.merge([part], whole)
    _tuned(part, 9, ended=True, steps=9)  # the evaluation at its end adds no step
    merge.merge([part], whole)
    assert (run / metrics_file.RESULTS_FILE).exists() and json.loads(choice.read_text())["steps"] == 9
    _tuned(part, 18, ended=True, steps=18)
    merge.merge([part], whole)
    assert json.loads(choice.read_text())["steps"] == 18
    assert merge.merge([part], whole) == []


def test_a_part_that_was_trained_on_is_merged_with_what_was_not(tmp_path):
    for name, steps in (("short", 9), ("long", 18)):
        _tuned(tmp_path / name, steps, ended=True, steps=steps)
        terms = {"evaluators": {"probe": {"every": f"{steps // 3} steps", "examples": 5}}}
        terms |= {"base": "", "settings": [], "budget": {"equal": "steps", "steps": steps}}
        (tmp_path / name / plan.PLAN_FILE).write_text(json.dumps(terms))
    assert len(merge.merge([tmp_path / "long"], tmp_path / "short")) == 2
    terms["evaluators"]["probe"]["examples"] = 6
    (tmp_path / "long" / plan.PLAN_FILE).write_text(json.dumps(terms))
    with pytest.raises(ConfigError, match="its evaluators differ"):
        merge.merge([tmp_path / "long"], tmp_path / "short")


def test_other_comparisons_are_not_merged(tmp_path):
    for name, base in (("a", "x.py"), ("b", "y.py")):
        (tmp_path / name).mkdir()
        plans = {"base": base, "settings": [], "evaluators": {}, "budget": {}}
        (tmp_path / name / plan.PLAN_FILE).write_text(json.dumps(plans))
    with pytest.raises(ConfigError, match="b is another comparison: its base"):
        merge.merge([tmp_path / "a", tmp_path / "b"], tmp_path / "all")
    with pytest.raises(ConfigError, match="has no plan"):
        merge.merge([tmp_path], tmp_path / "all")
    with pytest.raises(ConfigError, match="give the workdirs that are to be joined"):
        merge.merge([], tmp_path / "all")


def test_entries_of_one_name_and_other_settings_are_not_merged(tmp_path):
    """The run that got further would take the place of the other one."""
    for name, settings_, lr in (("a", [], 0.1), ("b", [], 0.2), ("c", ["objective.mask_eos=False"], 0.1)):
        (tmp_path / name).mkdir()
        entries_ = [{"name": "mdc", "objective": "masked_diffusion", "settings": settings_, "lr": lr}]
        entries_ += [{"name": f"of_{name}", "objective": "clip", "settings": [], "lr": lr}]
        plans = {"base": "x.py", "settings": [], "evaluators": {}, "budget": {}, "entries": entries_}
        (tmp_path / name / plan.PLAN_FILE).write_text(json.dumps(plans))
    assert merge.merge([tmp_path / "a", tmp_path / "b"], tmp_path / "all") == []
    with pytest.raises(ConfigError, match=r"c is another comparison: its entries\.mdc differ"):
        merge.merge([tmp_path / "a", tmp_path / "c"], tmp_path / "all")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"seeds": (0, 0)}, r"seeds=\(0, 0\): one is there twice"),
        ({"seeds": (2**32,)}, r"seeds=\(4294967296,\): seeds are from 0"),
        ({"timing_steps": 0}, "timing_steps=0: must be at least 1"),
        ({"steps": -1}, "steps=-1"),
        ({"settings": ("seed=7",)}, "'seed=7': a comparison sets this itself: give seeds"),
        ({"settings": ("duration=9 steps",)}, "give steps"),
        ({"entries": {"seeds": -1}}, r"entries\.masked_diffusion\.seeds=-1"),
        ({"entries": {"steps": -3}}, r"entries\.masked_diffusion\.steps=-3"),
        ({"entries": {"lr": 0.1, "settings": ("optimizer.lr=0.2",)}}, r"give entries\.masked_diffusion\.lr"),
        ({"tuning": {"learning_rates": (0.0,)}}, r"tuning\.learning_rates=\(0\.0,\): must be above 0"),
        ({"tuning": {"learning_rates": (0.1,), "seeds": ()}}, r"tuning\.seeds=\(\): give at least one"),
    ],
)
def test_what_would_be_lost_or_counted_twice_is_refused(changed, words):
    config = tiny.comparison(4)
    for key, value in changed.items():
        section = config.entries.masked_diffusion if key == "entries" else config.tuning if key == "tuning" else None
        if section is None:
            config[key] = value
        else:
            section.update(value)
    with pytest.raises(ConfigError, match=words):
        settings.parse(config)


def test_a_rate_for_all_entries_is_a_setting_where_none_is_chosen():
    assert entries.config_of(
        _comparison(settings=("optimizer.lr=0.2",)), "autoregressive", seed=0, steps=4, lr=0.0, evaluators={}
    ).optimizer.lr == pytest.approx(0.2)


def test_a_decoder_that_sees_images_is_not_scored_with():
    found = _comparison(own={"mdc": Entry(blind="other"), "other": Entry("autoregressive")})
    with pytest.raises(ConfigError, match=r"entries\.mdc\.blind='other': it is trained with images"):
        execution.check(found, plan.runs(found, ["mdc"]))


def test_of_steps_that_are_given_nothing_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "measure", lambda *arguments: pytest.fail("a short run"))
    found = _comparison(own={"mdc": Entry(steps=7), "ar": Entry("autoregressive", steps=5)}, equal="flops")
    assert budget.steps(found, epath.Path(tmp_path), ["mdc", "ar"]) == {"mdc": 7, "ar": 5}


def test_damaged_files_of_a_comparison_are_named(tmp_path):
    found = _comparison(equal="seconds")
    timing = tmp_path / "timing" / "masked_diffusion" / budget.TIMING_FILE
    timing.parent.mkdir(parents=True)
    for content in ("{", "{}", '{"flops_per_step": 3}'):
        timing.write_text(content)
        with pytest.raises(ConfigError, match=r"timing\.json is damaged"):
            budget.known(found, epath.Path(tmp_path))
    (tmp_path / plan.PLAN_FILE).write_text("{}")
    with pytest.raises(ConfigError, match=r"plan\.json is damaged"):
        merge.merge([tmp_path], tmp_path / "all")
    with pytest.raises(ConfigError, match="has no plan"):
        merge.merge([tmp_path / plan.PLAN_FILE], tmp_path / "all")


def test_runs_of_another_comparison_are_not_copied(tmp_path):
    """What is copied would be in the way of the right ones."""
    found = _comparison()
    (run,) = plan.runs(found, ["autoregressive"])
    folder = run.folder(epath.Path(tmp_path))
    folder.mkdir(parents=True)
    config = plan.config_of(found, run, epath.Path(tmp_path), 100)
    (folder / loop.CONFIG_FILE).write_text(dumps(config))
    execution.check_held(found, epath.Path(tmp_path))
    with pytest.raises(ConfigError, match="holds another run"):
        execution.check_held(_comparison(settings=("data.max_tokens=5",)), epath.Path(tmp_path))
    execution.check_held(_comparison(settings=("data.max_tokens=5",)), epath.Path(tmp_path), but=[run])


def test_a_run_by_a_printed_command_is_one_of_the_comparison_that_tuned_it(tmp_path):
    """Its rate was given to the run, and tuned in the workdir that printed the command."""
    tuning_ = {"learning_rates": (0.003, 0.004), "seeds": (1000,)}
    found, given, other = (
        _comparison({"masked_diffusion": Entry(lr=rate)}, tuning=tuning_) for rate in (0.0, 0.003, 0.004)
    )
    whole, cell = epath.Path(tmp_path) / "whole", epath.Path(tmp_path) / "cell"
    (run,) = plan.runs(found, ["masked_diffusion"])
    run.folder(cell).mkdir(parents=True)
    (run.folder(cell) / loop.CONFIG_FILE).write_text(dumps(plan.config_of(given, run, cell, 100)))
    assert plan.learning_rate(found, "masked_diffusion", whole) == (0.0, "not tuned yet")
    with pytest.raises(ConfigError, match=r"optimizer\.lr: 0\.003"):
        execution.check_held(found, cell)
    choice = whole / "tuning" / "masked_diffusion" / tuning.CHOICE_FILE
    choice.parent.mkdir(parents=True)
    choice.write_text(json.dumps({"chosen": 0.003}))
    execution.check_held(found, cell, tuned_in=[whole])
    # The rate that was tuned is called so where it is given too, and no other is.
    assert plan.learning_rate(given, "masked_diffusion", whole) == (0.003, "tuned")
    assert plan.learning_rate(other, "masked_diffusion", whole) == (0.004, "given")
    assert plan.learning_rate(_comparison(), "masked_diffusion", whole) == (0.0, "of the base config")


def test_a_run_at_work_is_not_merged(tmp_path):
    _tuned(tmp_path / "part", 5, ended=False)
    folder = epath.Path(tmp_path) / "part" / "tuning" / "a" / "lr0.1" / "seed1000"
    with lock.hold(folder), pytest.raises(ConfigError, match=r"a run is at work in .*seed1000: process \d+ on"):
        merge.merge([tmp_path / "part"], tmp_path / "whole")
    assert len(merge.merge([tmp_path / "part"], tmp_path / "whole")) == 1


def test_a_run_that_diverged_when_it_was_trained_on_is_whole_with_its_steps(tmp_path):
    found = _comparison()
    (run,) = plan.runs(found, ["autoregressive"])
    folder = run.folder(epath.Path(tmp_path))
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps({"step": 100, "results": {}}))
    (folder / sequence.DIVERGED_FILE).write_text("step 150: loss nan")

    def said(steps):
        plan.write(found, epath.Path(tmp_path), {"autoregressive": steps}, config="c.py", overrides={})
        runs = json.loads((tmp_path / plan.PLAN_FILE).read_text())["runs"]
        return {run["entry"]: run["diverged"] for run in runs}["autoregressive"]

    assert said(200) == "step 150: loss nan" and said(100) == ""
