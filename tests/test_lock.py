"""A workdir has one run at a time, and a run that was killed leaves it free."""

import resource
import signal
import subprocess
import sys
import textwrap

import pytest
from etils import epath

from mdc_jax import lock
from mdc_jax.config import ConfigError


def test_a_second_run_is_refused_until_the_first_ends(tmp_path):
    workdir = epath.Path(tmp_path)
    refused = pytest.raises(ConfigError, match=r"another run is at work.*process \d+ on .*--workdir")
    with lock.hold(workdir), refused, lock.hold(workdir):
        pass
    with lock.hold(workdir):
        pass


def test_a_killed_run_lets_go(tmp_path):
    program = f"""
        from etils import epath
        from mdc_jax import lock
        with lock.hold(epath.Path({str(tmp_path)!r})):
            print("held", flush=True)
            input()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    with pytest.raises(ConfigError, match=f"process {process.pid}"), lock.hold(epath.Path(tmp_path)):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    with lock.hold(epath.Path(tmp_path)):
        pass


def test_a_workdir_that_is_read_only():
    with (
        pytest.raises(ConfigError, match=r"--workdir=/proc cannot be written: .*make it writable"),
        lock.hold(epath.Path("/proc")),
    ):
        pass


def test_a_disk_that_is_full(tmp_path):
    with lock.hold(epath.Path(tmp_path)):
        pass
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # files that may not grow fail as on a full disk
        with (
            pytest.raises(ConfigError, match=r"cannot be written: .*free space there"),
            lock.hold(epath.Path(tmp_path)),
        ):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_bucket_is_not_locked_and_says_so(caplog):
    with lock.hold(epath.Path("gs://bucket/run")):
        pass
    assert "make sure that this is the only one" in caplog.text
