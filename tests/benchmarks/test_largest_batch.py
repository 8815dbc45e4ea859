import types

import pytest

from mdc_jax.benchmarks import largest_batch
from mdc_jax.config import sections
from mdc_jax.training import sharding


@pytest.mark.parametrize(
    "peak",
    [
        lambda size: 100 + 3 * size,
        lambda size: 500 + size + size**2 / 1000,
        lambda size: 200 + 50 * (size // 500) + size,
        lambda size: 40 * size,
    ],
)
def test_the_largest_batch_fits_and_one_that_is_little_larger_does_not(peak):
    tried = []
    limit = 7_000
    size = largest_batch.largest(lambda size: tried.append(size) or peak(size), limit)
    assert size % 8 == 0 and peak(size) <= limit < peak(size + max(8, round(0.02 * size)))
    assert len(tried) == len(set(tried)) < 12


def test_batches_are_those_that_mesh_and_accumulation_divide(monkeypatch):
    tried = []

    def prepare(config, batch, **_):
        sharding.check_batch(config.data.batch_size, config.optimizer.accumulation, sharding.make_mesh(config.mesh))
        tried.append(config.data.batch_size)
        return types.SimpleNamespace(peak_bytes=len(batch["image"]) ** 1.1), lambda: None

    monkeypatch.setattr(largest_batch.step_, "prepare", prepare)
    monkeypatch.setattr(largest_batch.step_, "measure", lambda *_: None)
    config = sections.Config(
        data=sections.Data(train="fake:train", max_tokens=8),
        image=sections.Image(size=8),
        mesh=sections.Mesh(data=-1, tensor=2),
        optimizer=sections.Optimizer(accumulation=3),
    )
    size = largest_batch.measure(config, vocab_size=10, caption_tokens=5, limit=1e3, plain=False)
    assert size == tried[-1] and size % 12 == 0 and size**1.1 <= 1e3 < (size + 24) ** 1.1


def test_peaks_that_do_not_grow():
    assert largest_batch.largest(lambda _: 1_000, 2_000) >= 2**20


def test_no_batch_fits():
    assert largest_batch.largest(lambda size: 1_000 + size, 500) == 0
