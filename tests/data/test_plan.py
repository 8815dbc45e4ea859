"""The plan: every epoch a permutation of its own."""

import bisect
import collections
import itertools
import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdc_jax.data.plan import MixedPlan, Part, Plan, sample


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


PARTS = (Part(Fraction("0.7"), 50), Part(Fraction("0.2"), 7), Part(Fraction("0.1"), 1000))


def _part_of(record, parts):
    ends = list(itertools.accumulate(part.num_records for part in parts))
    return bisect.bisect_right(ends, record)


def test_a_mixture_keeps_its_weights_at_every_position():
    plan = MixedPlan(PARTS, seed=3)
    seen = collections.Counter()
    for position in range(2000):
        seen[_part_of(plan.locate(position)[1], PARTS)] += 1
        for number, part in enumerate(PARTS):
            assert abs(seen[number] - (position + 1) * part.weight) < len(PARTS)
    assert [seen[number] for number in range(3)] == [1400, 400, 200]


@settings(deadline=None)
@given(
    weights=st.lists(st.fractions(Fraction(1, 1000), 10, max_denominator=1000), min_size=1, max_size=5),
    start=st.integers(0, 10**15),
)
def test_any_mixture_is_exact_far_out(weights, start):
    parts = [Part(weight, 3 + number) for number, weight in enumerate(weights)]
    plan = MixedPlan(parts, seed=1)
    run = 60
    seen = collections.Counter(_part_of(plan.locate(start + offset)[1], parts) for offset in range(run))
    for number, part in enumerate(parts):
        assert abs(seen[number] - run * part.weight / sum(weights)) < 2 * len(parts)


def test_parts_of_a_mixture_have_epochs_of_their_own():
    plan = MixedPlan(PARTS, seed=3)
    first = PARTS[0].num_records
    visits = [plan.locate(position) for position in range(3000)]
    for number, low in enumerate((0, first, first + 7)):
        count = PARTS[number].num_records
        own = [(epoch, record) for epoch, record in visits if low <= record < low + count]
        for turn in range(len(own) // count):
            one = own[turn * count : (turn + 1) * count]
            assert {epoch for epoch, _ in one} == {turn}
            assert sorted(record for _, record in one) == list(range(low, low + count))


def test_equal_parts_of_a_mixture_are_in_orders_of_their_own():
    parts = [Part(Fraction(1), 200)] * 2
    plan = MixedPlan(parts, seed=0)
    pairs = [(plan.locate(2 * turn)[1], plan.locate(2 * turn + 1)[1]) for turn in range(200)]
    assert sum(abs(first - second) == 200 for first, second in pairs) < 10


def test_permuted_captions_of_a_mixture_stay_within_their_part():
    plan = MixedPlan(PARTS, seed=3)
    for position in range(500):
        own, other = plan.locate(position)[1], plan.permuted_caption(position)
        assert _part_of(own, PARTS) == _part_of(other, PARTS)


def test_a_spread_takes_every_part_at_its_weight():
    assert list(Plan(10, 0).spread(4)) == [0, 2, 5, 7]
    spread = list(MixedPlan(PARTS, seed=0, shuffle=False).spread(100))
    by_part = [[record for record in spread if _part_of(record, PARTS) == number] for number in range(3)]
    assert [len(records) for records in by_part] == [70, 20, 10]
    assert by_part[0][:7] == [0, 0, 1, 2, 2, 3, 4]
    assert by_part[2] == [57 + 100 * turn for turn in range(10)]


def test_a_sample_is_fair_for_every_length():
    order = [sample(index, 1000) for index in range(1000)]
    assert sorted(order) == list(range(1000))
    for count in (100, 400):
        tenths = collections.Counter(record // 100 for record in order[:count])
        assert all(abs(tenths[tenth] - count / 10) < 4.5 * math.sqrt(count / 10) for tenth in range(10))
