"""Reading at once: as many records as the measured waiting asks for, in order, and nothing else changes."""

import threading
import time

import pytest

from mdc_jax.config import sections
from mdc_jax.data.readers import Readers, read_ahead, wanted
from tests.data.in_flight import InFlight


class Slow:
    """Doubles numbers after a wait; knows how many were read at the same time."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.in_flight = InFlight()

    def __call__(self, key):
        with self.in_flight:
            time.sleep(self.seconds)
        if key == 70:
            raise OSError("gone")
        return 2 * key


def _work():
    """About 2 ms of processor time."""
    begin = time.thread_time()
    while time.thread_time() - begin < 0.002:
        pass


@pytest.mark.parametrize(
    ("wait", "work", "threads", "count"),
    [(0.05, 0.001, 2, 100), (0.05, 0.01, 1, 5), (0.0, 0.001, 16, 1), (-1e-6, 0.001, 2, 1), (10.0, 0.001, 2, 128)],
)
def test_littles_law_within_bounds(wait, work, threads, count):
    assert wanted(wait, work, threads) == count


def test_where_reading_waits_several_are_read_at_once_in_order():
    read = Slow(0.02)
    readers = Readers(read, sections.Data(threads=1))
    found = []
    for some in readers(range(40)):
        found += some
        for _ in some:
            _work()
    readers.close()
    assert found == [2 * key for key in range(40)]
    assert readers.count >= 4  # 20 ms of waiting for 2 ms of work, and some for the test itself
    assert 1 < read.in_flight.most <= readers.count


def test_where_reading_does_not_wait_each_thread_reads_for_itself():
    callers = set()
    readers = Readers(lambda key: callers.add(threading.get_ident()), sections.Data())
    for some in readers(range(20)):
        for _ in some:
            _work()
    assert readers.count == 1
    assert callers == {threading.get_ident()}


@pytest.mark.parametrize("count", [1, 4])
def test_a_number_that_is_given_is_kept_and_errors_come_out_in_their_place(count):
    read = Slow(0.001)
    readers = Readers(read, sections.Data(readers=count))
    found = []
    with pytest.raises(OSError, match="gone"):
        for some in readers(range(30, 90)):
            found += some
    readers.close()
    assert found == [2 * key for key in range(30, 62)]  # the list before it
    assert readers.count == count
    assert read.in_flight.most <= count


def test_what_is_read_ahead_comes_in_order_and_errors_in_their_place():
    read = Slow(0.005)
    ahead = read_ahead(read, iter(range(1_000)))
    assert [next(ahead) for _ in range(40)] == [2 * key for key in range(40)]
    assert 1 < read.in_flight.most <= 128
    with pytest.raises(OSError, match="gone"):
        list(ahead)
    keys = range(71, 1_200)  # more than are read before they are asked for
    assert [*read_ahead(Slow(0.001), iter(keys))] == [2 * key for key in keys]
