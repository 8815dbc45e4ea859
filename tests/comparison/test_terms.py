"""Learning rates, budgets, parts and errors: what is decided before anything is trained."""

import json

import pytest
from etils import epath

from mdc_jax.comparison import budget, entries, execution, merge, plan, recipe, settings, tuning
from mdc_jax.comparison.settings import Entry, Tuning
from mdc_jax.config import ConfigError
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


def test_tuning_reads_no_test_example():
    found = _comparison()
    config = entries.config_of(found, "autoregressive", seed=1000, steps=4, lr=0.01, evaluators={})
    config = tuning._probed_on_validation(config, found.tuning.probe)
    assert config.evaluators["probe"].test == config.data.validation != config.data.test
    assert (config.optimizer.lr, config.seed, set(config.evaluators)) == (0.01, 1000, {"probe"})


@pytest.mark.parametrize(("equal", "expected"), [("steps", 100), ("flops", 50), ("seconds", 40)])
def test_entries_have_in_equal_amounts_what_is_asked_for(monkeypatch, equal, expected):
    costs = {
        "masked_diffusion": {"flops_per_step": 1e6, "step_seconds": 0.2},
        "autoregressive": {"flops_per_step": 2e6, "step_seconds": 0.5},
    }
    monkeypatch.setattr(budget, "measure", lambda comparison, workdir, name: costs[name])
    found = _comparison(equal=equal)
    assert budget.steps(found, WORKDIR, found.order) == {"masked_diffusion": 100, "autoregressive": expected}
    assert budget.steps(found, WORKDIR, ["autoregressive"]) == {"autoregressive": expected}


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
    with pytest.raises(ConfigError, match='did you mean "clip/seed0"'):
        execution.choose(found, run="clip/seed1")


def test_a_command_has_what_was_tuned_and_measured(tmp_path):
    found = _comparison({"a": Entry(lr=0.003), "b": Entry("clip", lr_of="a")}, equal="flops")
    command = plan.command_of(found, plan.Run("b", 0), epath.Path(tmp_path), 77, "c.py", {"equal": "flops"})
    arguments = "--config=c.py --config.equal=flops --config.entries.b.lr=0.003 --config.entries.b.steps=77"
    assert command == f"python -m mdc_jax.compare {arguments} --run=b/seed0 --workdir=DIR"


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
    [("objective.intervall=(0.0, 1.0)", "does not fit the config"), ("objective.interval", "write KEY=VALUE")],
)
def test_settings_that_do_not_fit_are_refused_before_anything_is_trained(setting, words):
    found = _comparison({"a": Entry(settings=(setting,))})
    with pytest.raises(ConfigError, match=words):
        execution.check(found, execution.choose(found))


def test_other_comparisons_are_not_merged(tmp_path):
    for name, base in (("a", "x.py"), ("b", "y.py")):
        (tmp_path / name).mkdir()
        plans = {"base": base, "settings": [], "evaluators": {}, "budget": {}}
        (tmp_path / name / plan.PLAN_FILE).write_text(json.dumps(plans))
    with pytest.raises(ConfigError, match="b is another comparison: its base"):
        merge.merge([tmp_path / "a", tmp_path / "b"], tmp_path / "all")
    with pytest.raises(ConfigError, match="has no plan"):
        merge.merge([tmp_path], tmp_path / "all")
