import jax.numpy as jnp
import numpy as np
import pytest

from mdc_jax.config import sections
from mdc_jax.evaluators import build
from tests.evaluators.fakes import BAD, FakeObjective, FakeSource, make_subject

IDS = np.delete(np.arange(21), BAD)


@pytest.mark.parametrize("batch_size", [8, 16, 24])
def test_loss_is_the_mean_over_readable_examples(tmp_path, use_source, batch_size):
    use_source(FakeSource(21))
    section = sections.HeldOutLoss(examples=21, batch_size=batch_size)
    values = dict(build(section).run(make_subject(tmp_path)))
    assert values["loss"] == pytest.approx(IDS.mean())
    assert values["square"] == pytest.approx((IDS**2).mean())


class OfLate(FakeObjective):
    """With a metric of images from the 15th on: batches have different numbers of them."""

    def loss(self, params, corrupted):
        loss, _ = super().loss(params, corrupted)
        late = corrupted["weight"] * (corrupted["id"] >= 15)
        return loss, {"late": jnp.sum(late * corrupted["id"]), "late_images": jnp.sum(late)}


@pytest.mark.parametrize("batch_size", [8, 16, 24])
def test_a_metric_of_some_images_is_the_mean_over_those(tmp_path, use_source, batch_size):
    use_source(FakeSource(21))
    section = sections.HeldOutLoss(examples=21, batch_size=batch_size)
    values = dict(build(section).run(make_subject(tmp_path, OfLate())))
    assert values["late"] == pytest.approx(IDS[IDS >= 15].mean()) and values.keys() == {"late", "loss"}


def test_every_evaluation_draws_the_same_masks_and_every_batch_its_own(tmp_path, use_source):
    use_source(FakeSource(21))
    section = sections.HeldOutLoss(examples=21, batch_size=8)
    first, second = (dict(build(section).run(make_subject(tmp_path))) for _ in range(2))
    other = dict(build(sections.HeldOutLoss(examples=8, batch_size=8)).run(make_subject(tmp_path)))
    assert first["noise"] == second["noise"] != other["noise"]
