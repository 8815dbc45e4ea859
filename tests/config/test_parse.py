"""A wrong setting is named with its value and the fix; a right one survives the way to text and back."""

import contextlib
import dataclasses
import json
import operator
import random
from collections.abc import Iterable
from typing import Any

import pytest

from mdc_jax import command, config
from mdc_jax.config import check, sections
from mdc_jax.diffusion import corruption, schedules
from mdc_jax.ops import contrastive
from tests import tampering


def complete(**changes: Any) -> dict[str, Any]:
    tree = config.defaults(evaluators={"probe": config.evaluator("linear_probe")}).to_dict()
    tree["data"]["train"] = "scenes:train"
    for path, value in changes.items():
        section = tree
        *parents, key = path.split("__")
        for parent in parents:
            section = section[parent]
        section[key] = value
    return tree


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimizer__lrr": 0.1}, ['"optimizer.lrr"', "0.1", '"lr"']),
        ({"data__batch_size": "64"}, ["data.batch_size", "'64'", "int"]),
        ({"data__batch_size": True}, ["data.batch_size", "True", "int"]),
        ({"seed": -1}, ["seed=-1", "0 or more"]),
        ({"image__size": 50}, ["image.size", "50", "48", "64"]),
        ({"model__encoder__variant": "B16"}, ["model.encoder.variant", "B16", "B/16"]),
        ({"objective__schedule": "linaer"}, ["objective.schedule", "linaer", '"linear"']),
        ({"objective__name": "masked_difusion"}, ["objective.name", '"masked_diffusion"']),
        ({"objective__interval": (0.9, 0.2)}, ["objective.interval", "0.9"]),
        ({"objective__masks": "stratified"}, ["objective.interval", "(0.0, 1.0)"]),
        ({"objective__padding": "target", "objective__mask_eos": False}, ["objective.mask_eos=False", "visible EOS"]),
        ({"duration": "9k stps"}, ["duration", "9k stps", "9000 steps"]),
        ({"evaluators__probe__every": "often"}, ["evaluators.probe.every", "often"]),
        ({"evaluators__probe__type": "liner_probe"}, ["evaluators.probe.type", '"linear_probe"']),
        ({"optimizer__name": "adafactor"}, ["optimizer.weight_decay=0.1", "every step", "1e-4"]),
        ({"objective__ratio": 0.5}, ['"objective.ratio"', "configs/scenes.py:objective=clip"]),
        ({"optimizer__accumulation": 3}, ["data.batch_size", "256", "optimizer.accumulation=3"]),
        ({"image__mean": (1.0,)}, ["image.mean"]),
        ({"optimizer__lr": float("nan")}, ["optimizer.lr=nan", "above 0"]),
        ({"optimizer__b1": 1.5}, ["optimizer.b1=1.5", "[0, 1)"]),
        ({"optimizer__clip_norm": -1.0}, ["optimizer.clip_norm=-1.0", "0 (none) or more"]),
        ({"image__std": (0.0, 0.0, 0.0)}, ["image.std", "above 0"]),
        ({"model__encoder__width": -3}, ["model.encoder.width=-3", "0 (the default) to 16,384"]),
        ({"model__decoder__depth": 10**9}, ["model.decoder.depth=1000000000", "to 1,024"]),
        ({"model__encoder__variant": "B/²"}, ["model.encoder.variant", "B/²", "B/16"]),
        ({"image__size": 2**20}, ["image.size=1048576", "at most 2,048", "128 patches of 16"]),
        ({"data__max_tokens": 10**9}, ["data.max_tokens=1000000000", "at most 65,536"]),
        ({"duration": "1e999 steps"}, ["duration", "1e999 steps"]),
        ({"duration": "1e300 steps"}, ["duration", "up to 1e+15"]),
        ({"evaluators__probe__raw_size": 0}, ["evaluators.probe.raw_size=0", "at least 1"]),
        ({"evaluators__probe__read_factor": 0}, ["evaluators.probe.read_factor=0", "at least 1"]),
        ({"evaluators__probe__untrained_seeds": -1}, ["evaluators.probe.untrained_seeds=-1", "0 (none) or more"]),
        ({"evaluators__probe__every": "9 steps"}, ["checkpoint.best_metric", "held_out/loss", "there is none"]),
        ({"data": 3}, ["data", "3", "batch_size"]),
    ],
)
def test_errors_name_key_value_and_fix(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(config.ConfigError) as error:
        config.parse(complete(**changes))
    for word in words:
        assert word in str(error.value)


def test_the_name_of_an_evaluator_is_that_of_a_folder() -> None:
    named = complete()
    (probe,) = named["evaluators"].values()
    for name in ("../../x", "/x", "", "..", "a/b"):
        with pytest.raises(config.ConfigError, match=r"evaluators='.*letters, digits"):
            config.parse({**named, "evaluators": {name: probe}})
    assert "a-b_1" in config.parse({**named, "evaluators": {"a-b_1": probe}}).evaluators


def test_whatever_a_config_holds_it_is_read_or_refused() -> None:
    whole = json.loads(config.dumps(config.parse(complete())))
    for number in range(300):
        changed = tampering.tree(whole, random.Random(number))
        if isinstance(changed, dict):
            with contextlib.suppress(config.ConfigError):
                config.dumps(config.parse(changed))


def test_an_objective_has_only_its_own_keys() -> None:
    tree = complete()
    tree["objective"] = {"name": "autoregressive", "interval": (0.5, 1.0)}
    with pytest.raises(config.ConfigError, match=r"objective\.interval"):
        config.parse(tree)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [("masked_lm", "ratio", 0.0), ("cappa", "parallel_share", 1.2), ("parallel", "null_image_rate", 1.1)],
)
def test_settings_of_objectives_are_checked(name: str, key: str, value: float) -> None:
    tree = complete()
    tree["objective"] = config.defaults(name).objective.to_dict() | {key: value}
    with pytest.raises(config.ConfigError, match=rf"objective\.{key}={value}"):
        config.parse(tree)


@pytest.mark.parametrize("name", ["clip", "siglip", "supervised"])
def test_image_tokens_are_kept_from_a_decoder_only_where_there_is_one(name: str) -> None:
    assert config.parse(complete(model__decoder__memory_keep=0.5)).model.decoder.memory_keep == 0.5
    tree = complete(model__decoder__memory_keep=0.5, objective=config.defaults(name).objective.to_dict())
    with pytest.raises(config.ConfigError, match=rf'model\.decoder\.memory_keep=0\.5: .*"{name}" has no decoder'):
        config.parse(tree)


def test_every_objective_survives_text_and_back() -> None:
    for name, section in sections.OBJECTIVES.items():
        tree = complete()
        tree["objective"] = config.defaults(name).objective.to_dict()
        resolved = config.parse(tree)
        assert resolved.objective == section()
        assert config.parse(json.loads(config.dumps(resolved))) == resolved


def test_text_and_back() -> None:
    resolved = config.parse(complete(optimizer__lr=1))
    assert resolved.optimizer.lr == 1.0
    assert config.parse(json.loads(config.dumps(resolved))) == resolved


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("9000 steps", 9000),
        ("7", 7),
        ("2 epochs", 7),
        ("0.5 epoch", 2),
        ("1e2 examples", 34),
        ("1 example", 1),
        ("0", 0),
    ],
)
def test_durations_become_steps_rounded_up(text: str, expected: int) -> None:
    assert config.steps(text, batch_size=3, examples_per_epoch=10) == expected


def test_a_window_of_steps_to_trace() -> None:
    assert config.parse(complete(log__profile="10:15")).log.profile == "10:15"
    for text in ("10", "15:10", "a:b", ":3"):
        with pytest.raises(config.ConfigError, match=rf'log\.profile: "{text}" is no window.*"10:15"'):
            config.parse(complete(log__profile=text))


def test_arguments_of_a_config() -> None:
    parsed = config.parse_argument("steps=5,local,lr=3e-4", steps=9, local=False, lr=1.0, name="x")
    assert (parsed.steps, parsed.local, parsed.lr, parsed.name) == (5, True, 3e-4, "x")
    with pytest.raises(config.ConfigError, match='did you mean "steps"'):
        config.parse_argument("step=5", steps=9)
    with pytest.raises(config.ConfigError, match="expected int"):
        config.parse_argument("steps=five", steps=9)


def test_a_mistyped_switch_is_no_false() -> None:
    assert config.parse_argument("local=false", local=True).local is False
    with pytest.raises(config.ConfigError, match='local="ture": expected true or false'):
        config.parse_argument("local=ture", local=False)


def test_a_section_that_is_none_is_an_error_with_its_name() -> None:
    for name in ("objective", "evaluators"):
        raw = complete() | {name: None}
        with pytest.raises(config.ConfigError, match=f"{name}=None: expected a section"):
            config.parse(raw)


def test_choices_are_what_there_is() -> None:
    # `ops` and `diffusion` stand alone, and sections.py is read before JAX is there: neither imports the other.
    of = {
        name: {field.name: field.metadata.get("choices") for field in dataclasses.fields(section)}
        for name, section in sections.OBJECTIVES.items()
    }
    for name in ("masked_diffusion", "masked_lm"):
        assert of[name]["padding"] == corruption.PADDING
    assert set(of["masked_diffusion"]["masks"]) == set(corruption.MASKS)
    assert set(of["masked_diffusion"]["schedule"]) == set(schedules.SCHEDULES)
    for name in ("clip", "siglip"):
        assert of[name]["duplicates"] == contrastive.DUPLICATES


def test_help_lists_every_config() -> None:
    text = command.describe_configs()
    for name in ("scenes", "pictures", "vitb_recap"):
        assert f"configs/{name}.py" in text
    assert text.count("Arguments") >= 3 and text.count("Hardware") >= 3


def test_the_held_out_loss_of_older_configs_found_log_likelihoods_too() -> None:
    old = {"type": "held_out_loss", "every": "2 steps", "log_likelihood": True}
    resolved = config.parse({"data": {"train": "fake:train"}, "evaluators": {"held_out": old}, "checkpoint": {}})
    assert resolved.evaluators == {"held_out": sections.HeldOutLoss(every="2 steps")}


def test_every_range_is_that_of_a_setting() -> None:
    """What no section has would pass unchecked."""
    whole = config.parse(complete())
    for path, ranges in check.RANGES.items():
        of_path = sections.OBJECTIVES.values() if path == "objective" else [operator.attrgetter(path)(whole)]
        assert ranges.keys() <= _settings(of_path), path
    assert check.OF_EVALUATORS.keys() <= _settings(sections.EVALUATORS.values())


def _settings(kinds: Iterable[Any]) -> set[str]:
    return {field.name for kind in kinds for field in dataclasses.fields(kind)}
