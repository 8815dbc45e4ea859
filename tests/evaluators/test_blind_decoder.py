"""A decoder without images stands beside a run only where the scores of both are of the same."""

import dataclasses

import pytest

from mdc_jax.config import ConfigError, sections
from mdc_jax.evaluators import blind_decoder

MASKED, LM = sections.MaskedDiffusion(), sections.MaskedLM()


def check(monkeypatch, objective, **of_blind):
    """Holds a run beside one without images that has the settings `of_blind`."""
    blind = dataclasses.replace(objective, **{"null_image_rate": 1.0, **of_blind})
    monkeypatch.setattr(blind_decoder.loading, "config_of", lambda workdir: sections.Config(objective=blind))
    blind_decoder.check(sections.Config(objective=objective), "blind")


@pytest.mark.parametrize(
    ("objective", "setting", "value"),
    [
        (MASKED, "interval", (0.2, 1.0)),
        (MASKED, "padding", "known"),
        (MASKED, "mask_eos", False),
        (MASKED, "mask_words", True),
        (LM, "ratio", 0.4),
    ],
    ids=str,
)
def test_what_scores_are_of_must_agree(monkeypatch, objective, setting, value):
    with pytest.raises(ConfigError, match=rf"has objective\.{setting}=.* where this run has .*train one with the same"):
        check(monkeypatch, objective, **{setting: value})


def test_the_same_with_other_weights_of_the_loss_will_do(monkeypatch):
    check(monkeypatch, MASKED, schedule="quadratic", masks_per_caption=2)
    check(monkeypatch, sections.Autoregressive(), order="right_to_left")
