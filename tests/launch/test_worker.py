"""launch/worker.sh with a trainer that obeys SIGTERM as the real one does: it saves and ends with code 143."""

import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.launch.fakes import Place

TRAINER = r"""
echo $$ >"$FAKE/trainer"
trap 'echo saved; exit 143' TERM
for _ in $(seq 600); do
  if [[ -e $FAKE/end ]]; then exit "$(<"$FAKE/end")"; fi
  sleep .05
done
"""


@pytest.fixture
def machine(place: Place) -> Iterator[Place]:
    place.command("python", TRAINER, folder=place.root / ".venv" / "bin")
    yield place
    (place.fake / "end").write_text("0")  # whatever still runs ends


def worker(machine: Place, *arguments: str) -> subprocess.CompletedProcess[str]:
    return machine.run("bash", "launch/worker.sh", *arguments)


def wait_for(path: pathlib.Path) -> str:
    for _ in range(400):
        if path.exists() and path.read_text():
            return path.read_text()
        time.sleep(0.05)
    raise TimeoutError(path)


def until_it_ends(machine: Place) -> str:
    for _ in range(400):
        state = worker(machine, "status").stdout.strip()
        if state != "running":
            return state
        time.sleep(0.05)
    raise TimeoutError(state)


def test_one_run_at_a_time_in_the_background(machine: Place) -> None:
    assert worker(machine, "status").stdout.strip() == "lost"
    assert worker(machine, "start", "--workdir=gs://b/a run").returncode == 0
    assert worker(machine, "status").stdout.strip() == "running"
    wait_for(machine.fake / "trainer")
    assert "at work already" in worker(machine, "start").stdout
    assert worker(machine, "run").returncode == 1
    assert machine.calls() == [["python", "-m", "mdc_jax.main", "--workdir=gs://b/a run"]]
    (machine.fake / "end").write_text("5")
    assert until_it_ends(machine) == "exit 5"


def test_a_run_that_was_asked_to_stop_is_not_finished(machine: Place) -> None:
    worker(machine, "start")
    wait_for(machine.fake / "trainer")
    assert worker(machine, "stop").returncode == 0
    assert until_it_ends(machine) == "exit 143"
    assert "saved" in (machine.root / "runs" / "worker" / "log").read_text()
    assert worker(machine, "stop").returncode == 0  # nothing is left to stop

    worker(machine, "start")
    assert worker(machine, "status").stdout.strip() == "running"  # the old code is forgotten


def test_a_run_that_ends_unseen_is_lost(machine: Place) -> None:
    worker(machine, "start")
    trainer = int(wait_for(machine.fake / "trainer"))
    wrapper = int(pathlib.Path(f"/proc/{trainer}/stat").read_text().split()[3])
    os.kill(wrapper, signal.SIGKILL)
    assert worker(machine, "status").stdout.strip() == "running"  # the trainer still is
    os.kill(trainer, signal.SIGKILL)
    assert until_it_ends(machine) == "lost"


def test_in_the_foreground_the_code_is_returned(machine: Place) -> None:
    (machine.fake / "end").write_text("3")
    assert worker(machine, "run").returncode == 3
    (machine.fake / "end").unlink()
    (machine.fake / "trainer").unlink()
    process = machine.start("bash", "launch/worker.sh", "run")
    wait_for(machine.fake / "trainer")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 143


def test_dry_run_and_usage(machine: Place) -> None:
    printed = worker(machine, "start", "--dry_run", "--a=b c").stdout
    assert printed.strip() == r".venv/bin/python -m mdc_jax.main --a=b\ c"
    assert worker(machine).returncode == 2
    assert machine.calls() == []
