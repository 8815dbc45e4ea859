"""A comparison from the first start to the merged table: killed, resumed, done in two halves, joined, extended."""

import collections
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time

import pytest
from etils import epath

from mdc_jax import command
from mdc_jax.comparison import collect, execution, merge, plan, settings
from mdc_jax.config import ConfigError
from mdc_jax.report import tables
from mdc_jax.report.metrics_file import read
from tests.comparison import tiny
from tests.end_to_end.command_line import ROOT, finish


def _start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "mdc_jax.compare", *arguments],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _last_step(folder: pathlib.Path) -> int:
    return max((line["step"] for line in read(epath.Path(folder))), default=0)


def _results(workdir: pathlib.Path) -> dict[tuple[str, str], dict[str, str]]:
    """The value by step, of each entry and metric."""
    found = collections.defaultdict(dict)
    for line in tables.read_csv(epath.Path(workdir) / collect.RESULTS_FILE):
        found[line["entry"], f"{line['evaluator']}/{line['metric']}"][int(line["step"])] = line
    return found


@pytest.mark.slow
def test_killed_resumed_merged_and_extended(tmp_path: pathlib.Path) -> None:
    one, two, all_ = tmp_path / "one", tmp_path / "two", tmp_path / "all"
    arguments = [f"--config={tiny.FILE}:compare=6", f"--workdir={one}", "--only=1/2"]
    killed = _start(*arguments)
    folder = one / "runs" / "masked_diffusion" / "seed0"
    while killed.poll() is None and _last_step(folder) < 2:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert finish(killed)[0] == -signal.SIGKILL
    code, output = finish(_start(*arguments))
    assert code == 0, output
    assert "1 runs are finished" in output
    # The other half, by the command that the plan shows for it.
    planned = json.loads((one / plan.PLAN_FILE).read_text())["runs"]
    (command,) = [run["command"] for run in planned if run["entry"] == "autoregressive"]
    code, output = finish(_start(*(word.replace("DIR", str(two)) for word in shlex.split(command)[3:])))
    assert code == 0, output

    found = settings.parse(tiny.comparison(6))
    said = {"config": f"{tiny.FILE}:compare=6", "overrides": {}}
    merge.merge([one, two], all_)
    every = execution.choose(found)
    assert execution.execute(found, epath.Path(all_), every, **said)
    results = _results(all_)
    for entry in ("masked_diffusion", "autoregressive"):
        # A run that was killed goes on with what it had measured.
        assert list(results[entry, "held_out/loss"]) == [2, 4, 6]
        last = results[entry, "probe/count"][6]
        assert float(last["value"]) == pytest.approx(
            json.loads(_probe(all_, entry))["results"]["probe/count"], abs=1e-5
        )
        assert (int(last["examples"]), last["split"]) == (48, "test")
        flops = [float(line["flops"]) for line in results[entry, "held_out/loss"].values()]
        assert flops == pytest.approx([flops[0], 2 * flops[0], 3 * flops[0]], rel=1e-4)
        assert 0 < float(results[entry, "held_out/loss"][2]["seconds"]) < float(last["seconds"])
    logs = {entry: (all_ / "runs" / entry / "seed0" / "metrics.jsonl").read_text() for entry in found.order}
    assert execution.execute(found, epath.Path(all_), every, **said)  # nothing is left to do
    assert logs == {entry: (all_ / "runs" / entry / "seed0" / "metrics.jsonl").read_text() for entry in found.order}

    longer = settings.parse(tiny.comparison(8))
    assert execution.execute(longer, epath.Path(all_), every[:1], **said)
    assert list(_results(all_)["masked_diffusion", "held_out/loss"]) == [2, 4, 6, 8]
    starts = json.loads((all_ / plan.PLAN_FILE).read_text())["runs"][0]["starts"]
    assert len(starts) == 3 and starts[0]["code"]["version"]  # killed, resumed, extended
    with pytest.raises(ConfigError, match="is at step 8 already"):
        execution.execute(found, epath.Path(all_), every[:1], **said)


def _probe(workdir: pathlib.Path, entry: str) -> str:
    return (workdir / "runs" / entry / "seed0" / "results.json").read_text()


@pytest.mark.slow
def test_a_finished_run_that_learned_labels_is_finished(tmp_path: pathlib.Path, capfd: pytest.CaptureFixture) -> None:
    comparison = settings.parse(tiny.comparison(2, ("supervised",)))
    for done in (0, 1):
        runs = execution.choose(comparison)
        assert execution.execute(comparison, epath.Path(tmp_path), runs, config="", overrides={})
        assert f"{done} of 1 runs are finished" in capfd.readouterr().out


@pytest.mark.long
def test_the_quick_size_in_miniature_runs_from_data_to_report(tmp_path: pathlib.Path) -> None:
    code, output = finish(_start("--config=configs/compare_scenes.py:smoke", f"--workdir={tmp_path}"))
    assert code == 0, output
    quick = settings.parse(command.load("configs/compare_scenes.py:quick"))
    measured = collections.defaultdict(set)
    for line in tables.read_csv(epath.Path(tmp_path) / collect.RESULTS_FILE):
        measured[line["entry"]].add(line["evaluator"])
    assert measured["masked_diffusion"] == measured["autoregressive"] == quick.evaluators.keys()
    assert measured["clip"] == quick.evaluators.keys() - {"captions", "perplexity", "position_signal"}
    assert (tmp_path / "report" / "report.html").exists()
