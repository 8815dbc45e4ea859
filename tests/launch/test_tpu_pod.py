"""launch/tpu_pod.sh against a gcloud that plays a scenario: its real control flow, without a cloud."""

import re
import shlex
import shutil
import subprocess
import tarfile

import pytest

from tests.launch.fakes import ROOT, Place

SETTINGS = {"NAME": "vitb", "ZONE": "zone-a", "ACCELERATOR": "v5litepod-16", "RUNTIME": "v2", "POLL": "0"}
FLAGS = ["--config=configs/a.py", "--workdir=gs://bucket/runs/a", "--config.log.wandb=a project's $name"]

# Answers line after line from the scenario's file; the last one stays. `fail` is a lost connection.
GCLOUD = r"""
case "$*" in
  *"queued-resources list"*) kind=request ;;
  *"tpu-vm list"*) kind=slice ;;
  *"worker.sh status"*) kind=workers ;;
  *"queued-resources create"*) kind=create ;;
  *) exit 0 ;;
esac
head -n 1 "$FAKE/$kind" >"$FAKE/answer"
if [[ $(wc -l <"$FAKE/$kind") -gt 1 ]]; then sed -i 1d "$FAKE/$kind"; fi
if grep -qx fail "$FAKE/answer"; then exit 1; fi
tr '+' '\n' <"$FAKE/answer"
"""


@pytest.fixture
def cloud(place: Place) -> Place:
    subprocess.run(["git", "init", "--quiet", place.root], check=True)
    shutil.copy(ROOT / ".gitignore", place.root)
    place.command("gcloud", GCLOUD)
    return place


def scenario(
    cloud: Place,
    *,
    request: tuple[str, ...] = ("another ACTIVE",),
    slice_: tuple[str, ...] = ("vitb READY",),
    workers: tuple[str, ...] = ("none", "exit 0"),
    create: tuple[str, ...] = ("created",),
) -> None:
    """What the lists, the workers (joined by "+") and the requests will answer, one after the other."""
    answers = {"request": request, "slice": slice_, "workers": workers, "create": create}
    for kind, lines in answers.items():
        (cloud.fake / kind).write_text("".join(f"{line}\n" for line in lines))


def pod(cloud: Place, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return cloud.run("bash", "launch/tpu_pod.sh", *arguments, **{**SETTINGS, **environment})


def without_times(printed: str) -> str:
    """What was printed, less the clock: two runs may fall into different seconds."""
    return re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", "", printed, flags=re.MULTILINE)


def verb(call: list[str]) -> str:
    """What a call of gcloud does, in a word or two."""
    command = next((argument.removeprefix("--command=") for argument in call if argument.startswith("--command=")), "")
    for word in ("worker.sh status", "worker.sh start", "worker.sh stop", "setup.sh", "cat ", "tail "):
        if word in command:
            return word.removeprefix("worker.sh ").strip()
    return " ".join(call[3:5]) if call[4] in ("list", "scp") else call[4]


def verbs(cloud: Place) -> list[str]:
    return [verb(call) for call in cloud.calls()]


def test_babysit_from_nothing_to_the_end(cloud: Place) -> None:
    scenario(cloud, workers=("none", "running+running", "exit 0+running", "exit 0+exit 0"))
    result = pod(cloud, "babysit", *FLAGS)
    assert result.returncode == 0, result.stderr
    watched = ["tpu-vm list", "status"]
    assert verbs(cloud) == [
        *("queued-resources list", "create", "tpu-vm list", "status"),
        *("tpu-vm scp", "setup.sh", "start", *watched, *watched, *watched, "cat", "delete"),
    ]
    created, started = (next(call for call in cloud.calls() if verb(call) == word) for word in ("create", "start"))
    assert created[5:] == [
        *("vitb", "--zone=zone-a", "--quiet", "--node-id=vitb"),
        *("--accelerator-type=v5litepod-16", "--runtime-version=v2", "--spot"),
    ]
    assert "--worker=all" in started
    command = shlex.split(started[-1].removeprefix("--command="))
    assert command == ["bash", "mdc_jax/launch/worker.sh", "start", "--coordinator=auto", *FLAGS]


def test_the_code_that_git_does_not_ignore_is_copied(cloud: Place) -> None:
    (cloud.root / "a new config.py").touch()
    (cloud.root / "data").mkdir()
    (cloud.root / "data" / "large").touch()
    assert pod(cloud, "setup").returncode == 0
    assert verbs(cloud) == ["tpu-vm scp", "setup.sh"]
    with tarfile.open(cloud.root / "runs" / "launch" / "vitb" / "code.tar.gz") as archive:
        names = archive.getnames()
    assert {"a new config.py", "launch/worker.sh", "launch/setup.sh"} <= set(names)
    assert not any(name.startswith(("data", "runs")) for name in names)


def test_dry_run_prints_what_a_run_without_incidents_does(cloud: Place) -> None:
    scenario(cloud)
    printed = pod(cloud, "--dry_run", "babysit", *FLAGS).stdout
    assert cloud.calls() == []
    assert not (cloud.root / "runs").exists()
    assert without_times(pod(cloud, "babysit", *FLAGS, "--dry_run").stdout) == without_times(printed)
    assert cloud.calls() == []
    real = pod(cloud, "babysit", *FLAGS).stdout
    commands = [line for line in printed.splitlines() if line.startswith("gcloud")]
    assert commands == [line for line in real.splitlines() if line.startswith("gcloud")]
    assert len(commands) == len(cloud.calls())


def test_a_preemption_leads_to_a_new_slice_and_the_same_run(cloud: Place) -> None:
    scenario(
        cloud,
        request=("another ACTIVE", "vitb SUSPENDED"),
        slice_=("vitb READY", "vitb READY", "vitb PREEMPTED", "vitb READY"),
        workers=("none", "running", "none", "exit 0"),
    )
    assert pod(cloud, "babysit", *FLAGS).returncode == 0
    done = verbs(cloud)
    assert done.count("create") == done.count("setup.sh") == 2
    first, second = (call for call in cloud.calls() if verb(call) == "start")
    assert first == second
    between = done[done.index("start") : len(done) - done[::-1].index("create")]
    assert "delete" in between


@pytest.mark.parametrize("workers", ["exit 143+exit 143", "lost+running"])
def test_a_stopped_run_is_not_finished(cloud: Place, workers: str) -> None:
    scenario(cloud, workers=("none", workers, "none", "exit 0"))
    assert pod(cloud, "babysit", *FLAGS).returncode == 0
    assert verbs(cloud).count("start") == 2


def test_a_failed_run_ends_with_its_code(cloud: Place) -> None:
    scenario(cloud, workers=("none", "running+exit 3"))
    assert pod(cloud, "babysit", *FLAGS).returncode == 3
    assert verbs(cloud).count("start") == 1
    assert verbs(cloud)[-2:] == ["cat", "delete"]


def test_workers_that_fail_since_others_were_preempted(cloud: Place) -> None:
    scenario(
        cloud,
        slice_=("vitb READY", "vitb READY", "vitb PREEMPTED", "vitb READY"),
        workers=("none", "exit 1+exit 1", "none", "exit 0"),
    )
    assert pod(cloud, "babysit", *FLAGS).returncode == 0
    assert verbs(cloud).count("start") == 2


def test_attempts_are_bounded(cloud: Place) -> None:
    scenario(cloud, workers=("none", "exit 143", "none", "exit 143", "none", "exit 143"))
    assert pod(cloud, "babysit", *FLAGS, ATTEMPTS="3").returncode == 143
    assert verbs(cloud).count("start") == 3
    assert verbs(cloud)[-1] == "delete"

    scenario(cloud, create=("fail",))
    before = verbs(cloud).count("create")
    assert pod(cloud, "babysit", *FLAGS, ATTEMPTS="2").returncode == 143
    assert verbs(cloud).count("create") - before == 2


def test_time_is_bounded(cloud: Place) -> None:
    scenario(cloud, workers=("running",))
    assert pod(cloud, "babysit", *FLAGS, MAX_HOURS="0").returncode == 143
    assert verbs(cloud)[-1] == "delete"


def test_a_run_at_work_is_watched_and_not_started_again(cloud: Place) -> None:
    scenario(cloud, request=("vitb ACTIVE",), workers=("running", "exit 0"))
    assert pod(cloud, "babysit", *FLAGS).returncode == 0
    assert not {"create", "setup.sh", "start"} & set(verbs(cloud))


def test_a_lost_connection_is_no_preemption(cloud: Place) -> None:
    scenario(cloud, slice_=("vitb READY", "fail", "vitb READY"), workers=("none", "fail", "running", "exit 0"))
    assert pod(cloud, "babysit", *FLAGS).returncode == 0
    assert verbs(cloud).count("create") == verbs(cloud).count("start") == 1


def test_without_an_answer_at_first_nothing_is_asked_for_nor_deleted(cloud: Place) -> None:
    """As without a login, in a zone that is misspelt, or while the network is away."""
    scenario(cloud, request=("fail",), slice_=("fail",))
    result = pod(cloud, "babysit", *FLAGS)
    assert result.returncode == 1 and "cannot list the slices in zone-a" in result.stderr
    assert verbs(cloud) == ["queued-resources list"]


def test_a_wait_without_answers_is_bounded(cloud: Place) -> None:
    scenario(cloud, request=("another ACTIVE", "fail"), slice_=("fail",))
    result = pod(cloud, "create")
    assert result.returncode == 1 and "does not answer" in result.stderr
    assert verbs(cloud).count("tpu-vm list") == 20


def test_create_waits_and_tells_of_a_failed_request(cloud: Place) -> None:
    waiting = ("vitb ACCEPTED", "vitb PROVISIONING")
    scenario(cloud, request=("vitb SUSPENDED", *waiting), slice_=("other READY", "vitb CREATING", "vitb READY"))
    assert pod(cloud, "create", TIER="on_demand").returncode == 0
    assert verbs(cloud)[:3] == ["queued-resources list", "delete", "create"]
    assert "--spot" not in cloud.calls()[2]

    scenario(cloud, request=("another ACTIVE", "vitb FAILED"), slice_=("vitb CREATING",))
    result = pod(cloud, "create")
    assert result.returncode == 1
    assert "failed" in result.stderr


@pytest.mark.parametrize("name", ["NAME", "ZONE", "ACCELERATOR", "RUNTIME"])
def test_missing_settings_are_named(cloud: Place, name: str) -> None:
    result = pod(cloud, "create", **{name: ""})
    assert result.returncode != 0
    assert f"{name}: " in result.stderr


@pytest.mark.parametrize("arguments", [["run", "--workdir=runs/a"], ["babysit"], ["destroy"], []])
def test_what_cannot_work_calls_nothing(cloud: Place, arguments: list[str]) -> None:
    assert pod(cloud, *arguments).returncode == 2
    assert cloud.calls() == []


@pytest.mark.parametrize("readme", ["README.md", "launch/README.md"])
def test_the_dry_run_that_is_shown_says_what_it_would_do(cloud: Place, readme: str) -> None:
    shown = re.search(
        r"^ *(export NAME=.*)\n *(bash launch/tpu_pod.sh --dry_run .*)$", (ROOT / readme).read_text(), re.M
    )
    result = cloud.run("bash", "-c", "\n".join(shown.groups()))
    assert result.returncode == 0, result.stderr
    assert "queued-resources create" in result.stdout and not cloud.calls()
