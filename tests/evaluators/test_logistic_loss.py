import types

import jax
import numpy as np
import pytest

from mdc_jax.evaluators import logistic_loss, solvers
from mdc_jax.evaluators.fitting import Labelled
from mdc_jax.evaluators.logistic import Logistic

N, D, K = 300, 12, 3
CPU = jax.devices()[0]


def problem() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Features, and labels of both kinds that they explain in part."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, D)).astype(np.float32)
    logits = x[:, :K] * 2 + rng.gumbel(size=(N, K))
    return x, {"presence": (logits > 1).astype(np.uint8), "class": logits.argmax(1).astype(np.int32)}


def accelerator(limit: int) -> types.SimpleNamespace:
    return types.SimpleNamespace(
        platform="gpu", device_kind="a GPU", memory_stats=lambda: {"bytes_limit": limit, "bytes_in_use": 1000}
    )


@pytest.mark.parametrize("kind", logistic_loss.KINDS)
@pytest.mark.parametrize("chunk", [70, 1000])
def test_a_device_finds_the_loss_and_gradient_of_the_processor(kind, chunk, monkeypatch):
    monkeypatch.setattr(logistic_loss, "_DEVICE_CHUNK", chunk)
    x, labels = problem()
    theta = np.random.default_rng(1).standard_normal((D + 1, K))
    expected, of_processor = logistic_loss.mean_loss(x, labels[kind], theta, kind)
    found, of_device = logistic_loss.OnDevice(x, labels[kind], kind, CPU)(theta)
    assert of_device.dtype == np.float64
    assert found == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(of_device, of_processor, atol=1e-6)


@pytest.mark.parametrize("kind", logistic_loss.KINDS)
def test_a_fit_on_a_device_has_the_same_minimum(kind):
    x, labels = problem()
    y = labels[kind]
    here = solvers.fit(x, y, 1e-3, kind=kind, classes=K, tolerance=1e-8)
    there = solvers.fit(x, y, 1e-3, kind=kind, classes=K, tolerance=1e-8, loss=logistic_loss.OnDevice(x, y, kind, CPU))
    assert there.minimum.converged
    assert there.minimum.value == pytest.approx(here.minimum.value, rel=1e-6)
    np.testing.assert_allclose(there.logits(x), here.logits(x), atol=0.02)


def test_features_go_to_an_accelerator_where_it_has_room_for_them(monkeypatch, caplog):
    x, labels = problem()
    monkeypatch.setattr(logistic_loss, "OnDevice", lambda *_: "on the device")
    features = x.nbytes + labels["class"].nbytes
    logits = 4 * N * K
    assert (
        logistic_loss.of(x, labels["class"], "class", accelerator(1000 + 2 * features + 4 * logits)) == "on the device"
    )
    assert not caplog.messages
    for too_little in (features, int(1.2 * features)):  # also where the features alone would fit
        on_processor = logistic_loss.of(x, labels["class"], "class", accelerator(1000 + too_little))
        assert on_processor.func is logistic_loss.mean_loss
    assert "do not fit" in caplog.text and "a GPU" in caplog.text


def test_a_processor_needs_no_copy():
    x, labels = problem()
    assert logistic_loss.of(x, labels["class"], "class").func is logistic_loss.mean_loss


def test_features_move_once_for_all_penalties(monkeypatch):
    moved = []
    monkeypatch.setattr(
        logistic_loss, "of", lambda x, y, kind: moved.append(x) or logistic_loss.OnDevice(x, y, kind, CPU)
    )
    x, labels = problem()
    tried = list(Logistic(4).sweep(Labelled(x, labels["class"], "class", K), lambda predict: 0.0))
    assert len(tried) == 4 and len(moved) == 1
