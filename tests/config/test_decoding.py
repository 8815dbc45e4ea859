import json
import math

import pytest

from mdc_jax.config import ConfigError, sections
from mdc_jax.config.decoding import check, check_length
from mdc_jax.config.parse import parse
from tests.config.test_golden import path_of

MASKED, LEFT = sections.MaskedDiffusion(null_image_rate=0.1), sections.Autoregressive()


@pytest.mark.parametrize("objective", [MASKED, LEFT, sections.Parallel(), sections.CapPa()])
def test_defaults_fit_every_objective(objective):
    check(sections.Decoding(), objective)
    check_length(sections.Decoding(), objective)


@pytest.mark.parametrize(
    ("settings", "objective", "message"),
    [
        ({"beams": 4}, MASKED, r"decoding.beams=4: the objective \"masked_diffusion\" cannot use it; it takes temp"),
        ({"steps": 4}, LEFT, r'decoding.steps=4: the objective "autoregressive" cannot use it'),
        ({"length": "training"}, LEFT, r"decoding.length='training': the objective"),
        ({"order": "random"}, sections.Parallel(), r'decoding.order=.* "parallel" cannot use it'),
        ({"temperature": -1.0}, LEFT, r"decoding.temperature=-1.0: expected 0"),
        ({"temperature": math.inf}, LEFT, r"decoding.temperature=inf: expected 0 .* and finite"),
        (
            {"temperature": 1e-39},
            LEFT,
            r"decoding.temperature=1e-39: expected 0 \(the likeliest\) or from 1e-6 on, and finite",
        ),
        ({"guidance": math.inf}, MASKED, r"decoding.guidance=inf: expected 0 .* to 1000"),
        ({"steps": 2**31}, MASKED, r"decoding.steps=2147483648: expected 0 .* to 10,000"),
        ({"threshold": 1.0}, MASKED, r"decoding.threshold=1.0: expected a probability"),
        ({"steps": 2, "threshold": 0.9}, MASKED, r"threshold=0.9: steps already says how many tokens a step reveals"),
        ({"remask": 0.1, "entropy_bound": 0.1}, MASKED, r"entropy_bound=0.1: remask needs a number of steps"),
        ({"top_p": 0.9}, MASKED, r"top_p=0.9: nothing is drawn at temperature=0"),
        ({"beams": 2, "temperature": 1.0}, LEFT, r"beams=2: beams search for the likeliest caption: set temperature=0"),
        ({"guidance": 1.0}, LEFT, r"guidance=1.0: the null memory was never trained: objective.null_image_rate is 0"),
    ],
)
def test_what_does_not_go_together(settings, objective, message):
    with pytest.raises(ConfigError, match=message):
        check(sections.Decoding(**settings), objective)


def test_a_length_that_nobody_knows():
    known = sections.MaskedDiffusion(padding="known")
    with pytest.raises(ConfigError, match='padding="known" has no length law: set decoding'):
        check_length(sections.Decoding(), known)
    with pytest.raises(ConfigError, match=r'length="training": give `length`'):
        check_length(sections.Decoding(length="training"), known)
    with pytest.raises(ConfigError, match=r'length="caption": give `length`, of the captions'):
        check_length(sections.Decoding(length="caption"), known)


def test_a_config_from_before_there_was_decoding():
    raw = json.loads(path_of("scenes.py").read_text())
    (entry,) = [entry for entry in raw["evaluators"].values() if entry["type"] == "captioning"]
    del entry["decoding"]
    entry["temperature"] = 0.7
    (found,) = [e for e in parse(raw).evaluators.values() if isinstance(e, sections.Captioning)]
    assert found.decoding == sections.Decoding(temperature=0.7)
