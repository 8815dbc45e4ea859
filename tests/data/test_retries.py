import concurrent.futures

import pytest

from mdc_jax.data import retries


def fails(index: int) -> None:
    raise OSError(f"no disk for {index}")


def test_once_a_read_has_failed_for_good_no_other_waits(monkeypatch):
    monkeypatch.setattr(retries, "_AFTER", (0.2, 0.2, 0.2))
    read = retries.Retries()
    with pytest.raises(retries.ReadError, match="set: record 3 could not be read in 4 attempts: no disk for 3"):
        read(fails, "set", 3)
    monkeypatch.setattr(retries, "_AFTER", (600.0,))
    with pytest.raises(retries.ReadError, match="record 4 could not be read in 1 attempts"):
        read(fails, "set", 4)
    assert read(lambda index: index, "set", 5) == 5


def test_a_read_that_waits_ends_with_the_others(monkeypatch):
    monkeypatch.setattr(retries, "_AFTER", (600.0,))
    read = retries.Retries()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(read, fails, "set", 1)
        assert not concurrent.futures.wait([waiting], timeout=0.2).done
        read.close()
        with pytest.raises(retries.ReadError, match="record 1 could not be read in 2 attempts"):
            waiting.result(timeout=60)


def test_a_file_system_that_comes_back_is_read_on(monkeypatch):
    monkeypatch.setattr(retries, "_AFTER", (0.0, 0.0))
    attempts = []

    def flaky(index: int) -> int:
        attempts.append(index)
        if len(attempts) < 3:
            fails(index)
        return index

    assert retries.Retries()(flaky, "set", 7) == 7 and attempts == [7, 7, 7]
