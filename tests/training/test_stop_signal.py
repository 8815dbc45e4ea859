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


def test_several_processes_stop_after_the_step_that_they_are_in() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), coordinator]
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
