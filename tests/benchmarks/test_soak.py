"""What the driver of a soak passes on and writes; the soak itself is in tests/end_to_end/test_resume.py."""

import pathlib

from etils import epath

from mdc_jax.benchmarks import soak
from mdc_jax.report import tables


def test_the_runs_get_the_whole_config_of_the_command() -> None:
    command = ["--kills=3", "--config", "a.py:x", "--workdir", "w", "--config.seed=3", "--config.lr", "-1", "--seed=2"]
    assert soak.config_arguments(command) == ["--config", "a.py:x", "--config.seed=3", "--config.lr", "-1"]
    command = ["--config=a.py", "--config.flip", "--workdir=w"]
    assert soak.config_arguments(command) == command[:2]


def test_what_followed_each_signal_is_written(tmp_path: pathlib.Path) -> None:
    out = epath.Path(tmp_path / "soak.csv")
    ended = {"saved": 12, "timed_steps": 10, "timed_seconds": 0.25, "seconds": 3.0}
    asked = {"last_step_seconds": 0.01, "save_seconds": 0.2}
    killed = {"signal": "SIGTERM", "starting": False, "step": 15, "code": 143, "exit_seconds": 0.5, **asked, **ended}
    stopped = {"signal": "SIGSTOP", "starting": True, "step": 0, "seconds": 2.0}
    soak.write(out, [killed, stopped, {"signal": "", **ended}])
    kill, stop, end = tables.read_csv(out)
    assert kill == {name: str(value) for name, value in killed.items()} | {"seconds": "3"}
    assert stop["signal"] == "SIGSTOP" and stop["code"] == stop["saved"] == "" and end["saved"] == "12"
