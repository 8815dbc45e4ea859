import dataclasses

import numpy as np
import pytest
from etils import epath

from mdc_jax.config import sections
from mdc_jax.evaluators import build
from mdc_jax.report import tables
from tests.evaluators.fakes import BAD, FakeObjective, FakeSource, make_subject

IDS = np.delete(np.arange(21), BAD)


@pytest.mark.parametrize("batch_size", [8, 16, 24])
def test_loss_is_the_mean_over_readable_examples(tmp_path, use_source, batch_size):
    use_source(FakeSource(21))
    section = sections.HeldOutLoss(examples=21, batch_size=batch_size)
    values = dict(build(section).run(make_subject(tmp_path)))
    assert values["loss"] == pytest.approx(IDS.mean())
    assert values["square"] == pytest.approx((IDS**2).mean())


def test_every_evaluation_draws_the_same_masks_and_every_batch_its_own(tmp_path, use_source):
    use_source(FakeSource(21))
    section = sections.HeldOutLoss(examples=21, batch_size=8)
    first, second = (dict(build(section).run(make_subject(tmp_path))) for _ in range(2))
    other = dict(build(sections.HeldOutLoss(examples=8, batch_size=8)).run(make_subject(tmp_path)))
    assert first["noise"] == second["noise"] != other["noise"]


def test_log_likelihood_per_caption_and_per_token_with_standard_errors(tmp_path, use_source):
    source = FakeSource(21)
    use_source(source)
    section = sections.HeldOutLoss(examples=21, batch_size=8, log_likelihood=True)
    values = dict(build(section).run(make_subject(tmp_path)))
    scores = -(3.0 + 4 + source.bits[IDS, 0])  # "a" and "cat" or "dog", by their token ids
    assert values["log_likelihood/ids/per_caption"] == pytest.approx(scores.mean())
    assert values["log_likelihood/ids/per_caption/standard_error"] == pytest.approx(scores.std() / np.sqrt(len(IDS)))
    assert values["log_likelihood/ids/per_token"] == pytest.approx(scores.mean() / 3)  # EOS is a token
    (row,) = tables.read_csv(epath.Path(tmp_path) / "log_likelihood.csv")
    assert (row["scorer"], row["estimates"], int(row["captions"])) == ("ids", "exact", len(IDS))
    assert float(row["of_it_monte_carlo"]) == pytest.approx(0.5 / np.sqrt(len(IDS)), rel=1e-4)


def test_similarities_are_no_log_likelihoods(tmp_path, use_source, monkeypatch):
    use_source(FakeSource(21))
    score = FakeObjective().scorers["ids"]
    similarity = {"similarity": lambda *inputs: dataclasses.replace(score(*inputs), kind="similarity")}
    monkeypatch.setattr(FakeObjective, "scorers", similarity)
    section = sections.HeldOutLoss(examples=21, batch_size=8, log_likelihood=True)
    values = dict(build(section).run(make_subject(tmp_path, FakeObjective(blind=True))))
    assert not any(name.startswith("log_likelihood") for name in values)
    assert not (tmp_path / "log_likelihood.csv").exists()
