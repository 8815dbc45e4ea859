"""A step is compiled for devices that are not there, and what is said of it is what the compiler planned."""

import dataclasses
import importlib.util
import pathlib
import re

import pytest
from etils import epath

from mdc_jax import command
from mdc_jax.config import ConfigError, parse, sections
from mdc_jax.report import tables
from mdc_jax.training import dry_compile, dry_report, topology
from tests.objectives import tiny as objectives_tiny

ROOT = pathlib.Path(__file__).parents[2]


def tiny(**mesh: int) -> sections.Config:
    config = parse(command.load(str(ROOT / "configs" / "scenes.py:runlocal")))
    data = dataclasses.replace(config.data, train="array_record:/nowhere/train")  # no data is read
    decoder = dataclasses.replace(config.model.decoder, depth=1)
    model = dataclasses.replace(config.model, decoder=decoder, scan="on")
    return dataclasses.replace(config, data=data, model=model, mesh=sections.Mesh(**mesh))


def megabytes(report: str, kind: str) -> tuple[float, float]:
    """What is sent and the least, of a row of the report's table."""
    found = re.search(rf"\| {kind} +\| [^|]*\| ([\d.]+) +\| ([\d.]+)", report)
    assert found, report
    return float(found[1]), float(found[2])


@pytest.mark.slow
def test_on_fake_devices(tmp_path: pathlib.Path) -> None:
    out = epath.Path(tmp_path / "plans.csv")
    plan = dry_compile.plan(tiny(), "cpu:8")
    report = dry_report.text(plan)
    assert (
        "mesh data=8 x fsdp=1 x tensor=1" in report
        and "float32" in report
        and "those of GPUs and TPUs differ" in report
    )
    sent, least = megabytes(report, "all-reduce")
    assert least <= sent < 1.1 * least + 0.1  # gradients are summed once, beside a few scalars
    for command_ in ("a", "b", "a"):
        dry_report.write(out, plan, command_)
    rows = tables.read_csv(out)
    assert [row["command"] for row in rows] == ["b", "a"]  # the same command again takes the place of its row
    assert rows[0]["mesh"] == "8x1x1" and rows[0]["capacity_bytes"] == ""
    assert int(rows[0]["peak_bytes"]) >= int(rows[0]["temporaries_bytes"]) > 0
    tables.write_csv(out, ["command", "speed"], [["a", 1]])
    with pytest.raises(ConfigError, match="other columns"):
        dry_report.write(out, plan, "a")


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="no TPU program was compiled: install requirements-tpu-compile.txt",
)
def test_on_a_tpu_topology() -> None:
    report = dry_report.text(dry_compile.plan(tiny(data=-1, fsdp=2), "v5e:2x2"))
    assert "4 x TPU v5 lite (v5e:2x2), mesh data=2 x fsdp=2 x tensor=1" in report
    assert "bfloat16" in report and "remat off: a step takes about" in report  # as on TPUs
    assert "of 16.9 GB" in report and "verdict: fits" in report
    sent, least = megabytes(report, "all-gather")
    assert 0.5 * least < sent < 2 * least


def test_a_program_that_does_not_fit_comes_with_what_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = "RESOURCE_EXHAUSTED: 21.13G exceeds available HBM (15.75G)."
    monkeypatch.setattr(dry_compile, "_compile", lambda *_: refused)
    monkeypatch.setattr(dry_compile.memory, "capacity", lambda _: 1e6)
    config = tiny()
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, remat="off"))
    report = dry_report.text(dry_compile.plan(config, "cpu:8"))
    assert "does not fit: RESOURCE_EXHAUSTED: 21.13G exceeds" in report
    assert "--config.mesh.data=1 --config.mesh.fsdp=8" in report  # the state is most of it
    assert "--config.optimizer.accumulation=2" in report and "--config.data.batch_size=8" in report
    assert "--config.model.remat=on" in report


@pytest.mark.parametrize("name", ["masked_diffusion", "clip", "supervised"])  # of each kind one
def test_remat_is_decided_where_the_memory_is_known(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(dry_compile, "_compile", lambda *_: "not compiled")
    monkeypatch.setattr(dry_compile.memory, "capacity", lambda _: 1e4)  # bytes: less than the state
    plan = dry_compile.plan(dataclasses.replace(tiny(), objective=objectives_tiny.section(name)), "cpu:8")
    assert plan.config.model.remat == "on" and plan.why_remat.startswith("remat on: ")


@pytest.mark.parametrize("target", ["v5e", "v5e:", "cpu:2x2", "cpu:9000", "abacus:3"])
def test_targets_that_do_not_exist(target: str) -> None:
    with pytest.raises(ConfigError, match=rf"--dry_compile={target}: "):
        topology.devices(target)


def test_without_the_compiler_of_tpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install -r requirements-tpu-compile\.txt"):
        topology.devices("v5e:4x4")
