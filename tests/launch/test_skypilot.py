"""launch/skypilot.yaml: what SkyPilot makes of it, and which trainer its last block starts."""

import importlib.util

import pytest
import yaml

from tests.launch.fakes import ROOT, Place

YAML = ROOT / "launch" / "skypilot.yaml"
RUN = yaml.safe_load(YAML.read_text())["run"]
NODES = {"SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "SKYPILOT_NODE_RANK": "1"}
LATER = "99999999999"
GIVEN = {"FLAGS": "--config=configs/a.py", "WORKDIR": "gs://b/a run", "UNTIL": LATER}


@pytest.mark.skipif(importlib.util.find_spec("sky") is None, reason="SkyPilot is not installed: pip install skypilot")
@pytest.mark.parametrize("accelerators", [None, "H100:8"])
def test_skypilot_reads_it(accelerators: str | None) -> None:
    from sky import Task

    config = yaml.safe_load(YAML.read_text())
    with pytest.raises(ValueError, match="WORKDIR"):
        Task.from_yaml_config(config)
    given = [("WORKDIR", "gs://bucket/runs/a"), ("FLAGS", "--config=configs/a.py"), ("UNTIL", LATER)]
    task = Task.from_yaml_config(config, env_overrides=given)
    if accelerators:
        task.set_resources_override({"accelerators": accelerators})
    (resources,) = task.resources
    assert resources.use_spot
    assert resources.accelerators == ({"H100": 8} if accelerators else {"tpu-v5litepod-16": 1})
    assert resources.job_recovery["max_restarts_on_errors"] == 3


@pytest.mark.parametrize(
    ("gpu", "nodes", "join"),
    [
        (False, 4, ["--coordinator=auto"]),
        (True, 1, []),
        (True, 2, ["--coordinator=10.0.0.1:8482", "--num_processes=2", "--process_id=1"]),
    ],
)
def test_how_processes_find_each_other(place: Place, gpu: bool, nodes: int, join: list[str]) -> None:
    place.command("nvidia-smi", "exit 0" if gpu else "exit 9")
    place.command("python", folder=place.root / ".venv" / "bin")
    result = place.run("bash", "-c", RUN, **{**NODES, **GIVEN, "SKYPILOT_NUM_NODES": str(nodes)})
    assert result.returncode == 0, result.stderr
    (trainer,) = (call for call in place.calls() if call[0] == "python")
    assert trainer == ["python", "-m", "mdc_jax.main", *join, "--config=configs/a.py", "--workdir=gs://b/a run"]


@pytest.mark.parametrize("until", ["1700000000", "tomorrow", ""])
def test_nothing_starts_after_the_time_that_was_given(place: Place, until: str) -> None:
    place.command("nvidia-smi", "exit 9")
    place.command("python", folder=place.root / ".venv" / "bin")
    result = place.run("bash", "-c", RUN, **{**NODES, **GIVEN, "UNTIL": until})
    assert result.returncode == 1
    assert f"not before UNTIL={until} (seconds since 1970): give a later one" in result.stderr
    assert place.calls() == []
