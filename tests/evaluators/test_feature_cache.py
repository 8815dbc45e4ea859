import numpy as np
import pytest

from mdc_jax.evaluators import feature_cache


def batches(sizes):
    rng = np.random.default_rng(0)
    for size in sizes:
        yield {"features": rng.standard_normal((size, 3, 2)).astype(np.float32), "label": rng.integers(0, 9, size)}


@pytest.mark.parametrize("large, files", [(2**28, 0), (100, 1)])
def test_batches_are_joined_and_large_arrays_are_files(tmp_path, monkeypatch, large, files):
    monkeypatch.setattr(feature_cache, "LARGE", large)
    stored = feature_cache.store(batches((4, 2, 4)), tmp_path, 12)
    expected = list(batches((4, 2, 4)))
    for name in ("features", "label"):
        np.testing.assert_array_equal(stored[name], np.concatenate([rows[name] for rows in expected]))
    assert isinstance(stored["features"], np.memmap) == bool(files)
    assert len(list(tmp_path.iterdir())) == files


def test_more_examples_than_announced_are_refused(tmp_path):
    with pytest.raises(IndexError, match="6 examples came, of which at most 5"):
        feature_cache.store(batches((4, 2)), tmp_path, 5)
