import pytest

from mdc_jax.benchmarks import largest_batch


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


def test_peaks_that_do_not_grow():
    assert largest_batch.largest(lambda _: 1_000, 2_000) >= 2**20


def test_no_batch_fits():
    assert largest_batch.largest(lambda size: 1_000 + size, 500) == 0
