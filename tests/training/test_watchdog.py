"""Stacks are printed when no step finishes for too long, and only then."""

import subprocess
import sys
import textwrap

PROGRAM = """
    import time
    from mdc_jax.training.watchdog import Watchdog

    def step_that_hangs(seconds):
        time.sleep(seconds)

    dog = Watchdog(SECONDS)
    step_that_hangs(1.2)  # the first one compiles
    for _ in range(30):
        step_that_hangs(0.02)
        dog.step_finished()
    dog.pause()
    step_that_hangs(1.2)  # an evaluation
    dog.step_finished()
    print("so far nothing", flush=True)
    step_that_hangs(1.4)
    dog.close()
"""


def test_a_step_that_hangs_is_shown_and_nothing_else() -> None:
    shown = {}
    for seconds in (1.0, 0):
        program = textwrap.dedent(PROGRAM).replace("SECONDS", str(seconds))
        result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
        assert result.stdout == "so far nothing\n"
        shown[seconds] = result.stderr
    assert shown[1.0].count("step_that_hangs") == shown[1.0].count("Timeout") == 1
    assert shown[0] == ""
