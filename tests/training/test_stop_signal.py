"""The first signal asks, a second Ctrl-C ends, all processes stop as one, and then signals do what they did before."""

import os
import signal
import socket
import subprocess
import sys
import textwrap

import pytest

from mdc_jax.training import distributed

# Steps in which one process comes late, and the others wait for it in a call that keeps their handlers waiting.
PROGRAM = """
    import sys, time
    from jax._src.distributed import global_state
    from mdc_jax.training import distributed

    coordinator, process = sys.argv[1], int(sys.argv[2])
    distributed.initialize(coordinator, 2, process)
    step = 0
    with distributed.StopSignal() as stop:
        while not stop.reached():
            step += 1
            print("step", step, flush=True)
            if process == 0:
                time.sleep(2)
            global_state.client.wait_at_barrier(f"step {step}", 60_000)
    assert stop.reached()
    print("stopped after", step, flush=True)
"""

# One process, which has a coordinator all the same, and to which signals come at odd times.
ALONE = """
    import os, signal, sys, threading, time
    from unittest import mock
    from jax._src.distributed import global_state
    from mdc_jax.training import distributed

    coordinator, moment = sys.argv[1:]
    distributed.initialize(coordinator, 1, 0)
    client = global_state.client = mock.Mock(wraps=global_state.client)
    client.key_value_set.side_effect = lambda *_, **__: time.sleep(0.5) or mock.DEFAULT
    if moment == "before":
        signal.raise_signal(signal.SIGTERM)
    with distributed.StopSignal() as stop:
        if moment == "unheard":
            signal.set_wakeup_fd(-1)  # as where another library takes it
            signal.raise_signal(signal.SIGTERM)
        if moment == "at the end":
            for _ in range(1000):
                signal.raise_signal(signal.SIGTERM)
        while moment != "at the end" and not stop.reached():
            time.sleep(0.01)
    assert client.key_value_set.call_count <= 1, client.key_value_set.call_count
    assert threading.active_count() == 1, threading.enumerate()
    if moment == "at the end":
        os._exit(0)  # JAX's own end may hang where its service has only begun to agree
"""


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_a_second_ctrl_c_ends(first: int, capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), distributed.StopSignal() as stop:
        assert not stop.reached()
        os.kill(os.getpid(), first)
        assert stop.reached()
        os.kill(os.getpid(), signal.SIGTERM)  # asked again: nothing new
        os.kill(os.getpid(), signal.SIGINT)
    assert capfd.readouterr().err.count("saves and ends after the present step") == 1
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.parametrize("moment", ["before", "unheard", "at the end"])
def test_a_signal_is_never_lost_and_leaves_no_thread_behind(moment: str) -> None:
    command = [sys.executable, "-c", textwrap.dedent(ALONE), coordinator(), moment]
    done = subprocess.run(command, timeout=60, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr


def test_several_processes_stop_after_the_step_that_they_are_in() -> None:
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), coordinator()]
    pipes = {"stdout": subprocess.PIPE, "text": True}
    two = [subprocess.Popen([*command, f"{process}"], **pipes) for process in range(2)]
    try:
        while (line := two[1].stdout.readline()) != "step 2\n":
            assert line, "the process ended"
        two[1].send_signal(signal.SIGINT)  # of which JAX's own handler knows nothing
        outputs = [process.communicate(timeout=60)[0] for process in two]
    finally:
        for process in two:
            process.kill()
    assert [output.splitlines()[-1] for output in outputs] == ["stopped after 2"] * 2
    assert [process.returncode for process in two] == [0, 0]


def coordinator() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"
