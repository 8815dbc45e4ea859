import dataclasses

import jax
import numpy as np
import pytest

from mdc_jax.config import ConfigError, sections
from mdc_jax.decoding import sampling
from mdc_jax.evaluators import build, lengths
from tests.evaluators.fakes import TOKENS, FakeObjective, FakeSource, make_subject


def test_the_training_law_counts_captions(tmp_path, use_source):
    use_source(FakeSource(40))
    law = np.exp(lengths.training_law(make_subject(tmp_path), added=1))
    assert law.shape == (TOKENS,)
    np.testing.assert_allclose(law.sum(), 1, rtol=1e-6)
    read = 39  # one is damaged; all have two words and EOS
    np.testing.assert_allclose(law, np.array([1, 1, 1 + read, 1]) / (read + TOKENS), rtol=1e-5)


def test_lengths_that_no_training_caption_has_are_never_drawn(tmp_path, use_source):
    use_source(FakeSource(40))
    law = lengths.training_law(make_subject(tmp_path))
    assert np.exp(law).tolist() == [0, 0, 1, 0]
    keys = jax.random.split(jax.random.key(0), 1000)
    drawn = sampling.choose(np.tile(law, (1000, 1)), keys, temperature=1.0)
    assert set(np.asarray(drawn).tolist()) == {2}


def test_a_law_that_holds_is_calibrated_and_others_are_not():
    rng = np.random.default_rng(0)
    law_NxL = rng.dirichlet(np.full(8, 1.0), 20_000)
    length_N = 1 + (rng.random((20_000, 1)) > law_NxL.cumsum(1)).sum(1)
    assert lengths.miscalibration(law_NxL, length_N) < 0.31 / 20_000**0.5 * 2
    too_sure = law_NxL**3 / (law_NxL**3).sum(1, keepdims=True)
    assert lengths.miscalibration(too_sure, length_N) > 0.03
    assert lengths.miscalibration(law_NxL[:, ::-1], np.full(20_000, 1)) > 0.2


def test_model_and_training_captions_are_compared(tmp_path, use_source, monkeypatch):
    use_source(FakeSource(40))
    law = np.log(np.array([0.1, 0.1, 0.7, 0.1]))
    monkeypatch.setattr(
        FakeObjective, "length_law", lambda *_: np.broadcast_to(law[None], (16, TOKENS)).astype(np.float32)
    )
    values = dict(build(sections.Lengths(examples=40, batch_size=16)).run(make_subject(tmp_path)))
    assert values["log_likelihood/model"] == pytest.approx(np.log(0.7), rel=1e-5)
    assert values["log_likelihood/training"] == pytest.approx(np.log(40 / 43), rel=1e-5)
    assert set(values) == {
        f"{metric}/{law}" for metric in ("log_likelihood", "miscalibration") for law in ("model", "training")
    }
    assert values["miscalibration/training"] < values["miscalibration/model"]


@pytest.mark.parametrize(
    "objective",
    [
        sections.Clip(),
        sections.Autoregressive(),
        sections.MaskedDiffusion(padding="target"),
        sections.MaskedDiffusion(mask_eos=False),
        sections.MaskedDiffusion(mask_words=True),
    ],
)
def test_an_objective_without_a_law_is_refused(tmp_path, objective):
    config = dataclasses.replace(make_subject(tmp_path).config, objective=objective)
    with pytest.raises(ConfigError, match="has no length law"):
        build(sections.Lengths()).check(config)
