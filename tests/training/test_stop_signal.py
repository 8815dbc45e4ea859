"""The first signal asks, a second Ctrl-C ends, and afterwards signals do what they did before."""

import os
import signal

import pytest

from mdc_jax.training import distributed


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_a_second_ctrl_c_ends(first: int, capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), distributed.StopSignal() as stop:
        assert not stop.requested
        os.kill(os.getpid(), first)
        assert stop.requested
        os.kill(os.getpid(), signal.SIGTERM)  # asked again: nothing new
        os.kill(os.getpid(), signal.SIGINT)
    assert capfd.readouterr().err.count("saves and ends after the present step") == 1
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
