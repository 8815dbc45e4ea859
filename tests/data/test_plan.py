"""The plan: every epoch a permutation of its own."""

import collections
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdc_jax.data.plan import Plan


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 8, 9, 64, 65, 97, 1000, 1021, 4096, 4097])
def test_every_epoch_visits_every_record_once(count):
    plan = Plan(count, seed=11)
    for epoch in (0, 1, 5):
        positions = range(epoch * count, (epoch + 1) * count)
        located = [plan.locate(position) for position in positions]
        assert {found for found, _ in located} == {epoch}
        assert sorted(record for _, record in located) == list(range(count))
        assert sorted(plan.permuted_caption(position) for position in positions) == list(range(count))


@settings(deadline=None)
@given(count=st.integers(1, 2**40), position=st.integers(0, 2**50), seed=st.integers(-(2**63), 2**63))
def test_any_position_of_any_size_is_located(count, position, seed):
    plan = Plan(count, seed)
    epoch, record = plan.locate(position)
    assert epoch == position // count
    assert 0 <= record < count
    assert 0 <= plan.permuted_caption(position) < count


def test_a_million_records_do_not_collide():
    plan = Plan(1_000_000, seed=0)
    step = 17
    records = [plan.locate(position)[1] for position in range(0, 1_000_000, step)]
    assert len(set(records)) == len(records)
    mean = sum(records) / len(records)
    assert abs(mean - 500_000) < 5 * 1_000_000 / math.sqrt(12 * len(records))


def test_orders_differ_between_epochs_seeds_and_purposes():
    count = 1000
    orders = [
        [Plan(count, seed).locate(epoch * count + offset)[1] for offset in range(count)]
        for seed in (0, 1)
        for epoch in (0, 1)
    ]
    orders += [[Plan(count, 0).permuted_caption(epoch * count + offset) for offset in range(count)] for epoch in (0, 1)]
    orders.append(list(range(count)))
    for first in range(len(orders)):
        for second in range(first):
            same = sum(a == b for a, b in zip(orders[first], orders[second], strict=True))
            assert same < 10  # 1 is expected, of a Poisson law


def test_small_permutations_are_equally_likely():
    trials = 2400
    for count in (2, 3, 4):
        seen = collections.Counter(
            tuple(Plan(count, seed).locate(offset)[1] for offset in range(count)) for seed in range(trials)
        )
        cells = math.factorial(count)
        expected = trials / cells
        chi_squared = sum((seen[key] - expected) ** 2 / expected for key in seen)
        assert len(seen) == cells
        assert chi_squared < cells - 1 + 5 * math.sqrt(2 * cells)


def test_a_record_is_anywhere_in_an_epoch():
    count, bins = 60, 6
    seen = collections.Counter()
    for seed in range(600):
        plan = Plan(count, seed)
        seen[next(offset for offset in range(count) if plan.locate(offset)[1] == 0) * bins // count] += 1
    assert all(abs(seen[bin_] - 100) < 5 * math.sqrt(100) for bin_ in range(bins))


def test_without_shuffling_records_keep_their_order():
    plan = Plan(5, seed=3, shuffle=False)
    assert [plan.locate(position) for position in (0, 4, 5, 13)] == [(0, 0), (0, 4), (1, 0), (2, 3)]


def test_no_records_are_refused():
    with pytest.raises(ValueError, match="at least one record"):
        Plan(0, seed=0)
