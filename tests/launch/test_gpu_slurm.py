"""launch/gpu_slurm.sbatch with fake srun, scancel and scontrol; scancel signals the tasks, as Slurm's does."""

import pathlib
import shlex
import signal
import subprocess
import time

import pytest

from tests.launch.fakes import Place

JOB = {"SLURM_JOB_ID": "7", "SLURM_NTASKS_PER_NODE": "4", "SLURM_GPUS_ON_NODE": "4", "SLURM_CPUS_PER_TASK": "6"}
FLAGS = ["--config=configs/a.py", "--workdir=runs/a run"]
ENDS = 'exit "$(<"$FAKE/code")"'
TRAINS = r"""
trap 'echo saved; exit 143' TERM
echo $$ >"$FAKE/step"
for _ in $(seq 600); do sleep .05; done
"""


@pytest.fixture
def cluster(place: Place) -> Place:
    place.command("scontrol")
    place.command("scancel", 'kill -TERM "$(<"$FAKE/step")"')
    return place


def batch(cluster: Place, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Runs the script as Slurm does: a copy of it, elsewhere, which knows where it was submitted."""
    copy = cluster.fake / "slurm_script"
    copy.write_text((cluster.root / "launch" / "gpu_slurm.sbatch").read_text())
    return cluster.start("bash", str(copy), *arguments, SLURM_SUBMIT_DIR=str(cluster.root), **{**JOB, **environment})


def step_of(cluster: Place) -> int:
    path: pathlib.Path = cluster.fake / "step"
    for _ in range(400):
        if path.exists() and path.read_text():
            return int(path.read_text())
        time.sleep(0.05)
    raise TimeoutError(path)


@pytest.mark.parametrize("code", [0, 3])
def test_the_job_has_the_code_of_the_run(cluster: Place, code: int) -> None:
    cluster.command("srun", ENDS)
    (cluster.fake / "code").write_text(str(code))
    job = batch(cluster, *FLAGS)
    job.communicate(timeout=30)
    assert job.returncode == code
    (call,) = cluster.calls()
    assert call[:4] == ["srun", "--kill-on-bad-exit=1", "--gpu-bind=none", "--cpus-per-task=6"]
    assert call[4:] == [".venv/bin/python", "-m", "mdc_jax.main", "--coordinator=auto", *FLAGS]


def test_dry_run_prints_the_command_of_the_job(cluster: Place) -> None:
    cluster.command("srun", ENDS)
    (cluster.fake / "code").write_text("0")
    result = cluster.run("bash", "launch/gpu_slurm.sbatch", "--dry_run", *FLAGS, SLURM_CPUS_PER_TASK="6")
    assert cluster.calls() == []
    batch(cluster, *FLAGS).communicate(timeout=30)
    assert cluster.calls() == [shlex.split(result.stdout)]


def test_before_the_time_limit_it_saves_and_queues_again(cluster: Place) -> None:
    cluster.command("srun", TRAINS)
    job = batch(cluster, *FLAGS)
    step_of(cluster)
    job.send_signal(signal.SIGUSR1)
    stdout, _ = job.communicate(timeout=30)
    assert job.returncode == 0
    assert "saved" in stdout
    assert cluster.calls()[1:] == [["scancel", "--signal=TERM", "7"], ["scontrol", "requeue", "7"]]


def test_a_cancelled_job_waits_for_its_tasks_and_stays_cancelled(cluster: Place) -> None:
    cluster.command("srun", TRAINS.replace("echo saved", "sleep .3; echo saved"))
    job = batch(cluster, *FLAGS)
    step = step_of(cluster)
    job.send_signal(signal.SIGTERM)  # Slurm sends it to the script and to the tasks
    subprocess.run(["kill", "-TERM", str(step)], check=True)
    stdout, _ = job.communicate(timeout=30)
    assert "saved" in stdout
    assert [call[0] for call in cluster.calls()] == ["srun"]


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"SLURM_RESTART_COUNT": "3", "MAX_RESTARTS": "2"}, "MAX_RESTARTS=2"),
        ({"SLURM_NTASKS_PER_NODE": "1"}, "1 tasks for 4 GPUs"),
        ({"SLURM_JOB_ID": ""}, "sbatch"),
    ],
)
def test_what_must_not_run(cluster: Place, environment: dict[str, str], message: str) -> None:
    cluster.command("srun")
    job = batch(cluster, *FLAGS, **environment)
    _, stderr = job.communicate(timeout=30)
    assert job.returncode != 0
    assert message in stderr
    assert cluster.calls() == []
