"""The log has each step once, whatever was interrupted."""

import json
import math
import pathlib
import struct
import sys
from unittest import mock

import pytest
from etils import epath
from tensorboardX.proto.event_pb2 import Event

from mdc_jax.config import ConfigError
from mdc_jax.report.metrics_file import METRICS_FILE, read
from mdc_jax.training.metric_writer import MetricWriter, clock


def write(workdir: epath.Path, start: int, steps: list[int]) -> None:
    writer = MetricWriter(workdir, step=start, tensorboard=True)
    for step in steps:
        writer.write(step, {"loss": step / 2})
    writer.close()


def test_a_resume_writes_the_lines_beyond_its_checkpoint_anew(tmp_path: pathlib.Path) -> None:
    workdir = epath.Path(tmp_path)
    write(workdir, 0, [10, 20, 30, 40])
    with (tmp_path / METRICS_FILE).open("a") as file:
        file.write('{"step": 50, "lo')  # a crash in the middle of a line
    write(workdir, 20, [30, 40, 50])
    assert [line["step"] for line in read(workdir)] == [10, 20, 30, 40, 50]


def test_tensorboard_has_what_the_json_lines_have(tmp_path: pathlib.Path) -> None:
    write(epath.Path(tmp_path), 0, [1, 2])
    (file,) = (tmp_path / "tensorboard").glob("events.*")
    records, found = file.read_bytes(), []
    while records:  # each is its length, a checksum, an event and a checksum
        (length,) = struct.unpack("<Q", records[:8])
        event, records = Event.FromString(records[12 : 12 + length]), records[16 + length :]
        found += [{"step": event.step, value.tag: value.simple_value} for value in event.summary.value]
    assert found == read(epath.Path(tmp_path))


def test_values_that_json_does_not_know(tmp_path: pathlib.Path) -> None:
    writer = MetricWriter(epath.Path(tmp_path), step=0, tensorboard=False)
    writer.write(1, {"loss": math.nan})
    writer.close()
    assert json.loads((tmp_path / METRICS_FILE).read_text()) == {"step": 1, "loss": None}


def test_clock() -> None:
    assert clock(3_725) == "01:02:05" and clock(200_000) == "2.3 days"


def test_weights_and_biases_has_them_too_and_a_resume_goes_on_with_its_run(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = mock.MagicMock()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    for folder in ("a", "a", "b"):
        (tmp_path / folder / "run").mkdir(parents=True, exist_ok=True)
        monkeypatch.chdir(tmp_path / folder)
        writer = MetricWriter(epath.Path("run"), step=0, tensorboard=False, wandb="project")
        writer.write(3, {"loss": 1.0})
        writer.close()
    first, second, other = (call.kwargs for call in wandb.init.call_args_list)
    assert first == second and first["project"] == "project" and first["resume"] == "allow"
    assert other["id"] != first["id"]  # another run, though it is called alike
    wandb.init.return_value.log.assert_called_with({"loss": 1.0}, step=3)
    assert wandb.init.return_value.finish.call_count == 3


def test_weights_and_biases_asked_for_and_not_there(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r'log\.wandb="project".*requirements-wandb\.txt'):
        MetricWriter(epath.Path(tmp_path), step=0, tensorboard=False, wandb="project")
