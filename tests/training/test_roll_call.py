"""Processes wait for each other, and those that did not come are named to the ones that did."""

import contextlib
import pathlib
import socket
import time
from concurrent import futures

import jax
import pytest
from jax._src.clusters import cloud_tpu_cluster

from mdc_jax.config import ConfigError
from mdc_jax.exchange import loading
from mdc_jax.training import distributed, roll_call
from tests import commands

# Read as a config, which is a program: waits a second instead of minutes, on a machine of a TPU slice.
CONFIG = """
from jax._src.clusters import cloud_tpu_cluster
from mdc_jax.training import distributed
from tests.end_to_end.tiny import get_config

distributed._START_TIMEOUT = 1
cloud_tpu_cluster.running_in_cloud_tpu_vm = True
cloud_tpu_cluster.GkeTpuCluster._get_num_slices = staticmethod(lambda: 1)
"""
SLICE = {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4"}


@pytest.fixture
def coordinator() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def connect(port: int) -> socket.socket:
    """Connects as soon as somebody listens."""
    for _ in range(100):
        with contextlib.suppress(OSError):
            return socket.create_connection(("127.0.0.1", port), timeout=1)
        time.sleep(0.02)
    raise TimeoutError(port)


def hold(coordinator: str, *processes: int, count: int, timeout: float) -> list[str]:
    """What each of these processes is told; "" where all came."""

    def one(process: int) -> str:
        try:
            roll_call.hold(coordinator, count, process, timeout=timeout)
        except ConfigError as error:
            return str(error)
        return ""

    with futures.ThreadPoolExecutor() as pool:
        return list(pool.map(one, processes))


def test_all_go_on_when_all_have_come(coordinator: str) -> None:
    assert hold(coordinator, 3, 1, 2, 0, count=4, timeout=20) == [""] * 4
    assert hold(coordinator, 0, count=1, timeout=1) == [""]  # and the port is free again


def test_the_missing_are_named_to_everybody(coordinator: str) -> None:
    for said in hold(coordinator, 0, 2, count=4, timeout=1):
        assert "processes 1, 3 of 4 did not come within 1 s" in said
        assert "--worker=all" in said
    (said,) = hold(coordinator, 1, count=2, timeout=0.5)
    assert f"process 0 did not come to {coordinator}" in said and "--worker=all" in said


def test_the_same_process_twice_and_another_number_of_processes(coordinator: str) -> None:
    said = hold(coordinator, 0, 1, 1, count=3, timeout=1)
    assert "process 2 of 3 did not come" in said[0] and "process 1 came twice" in said[0]
    with futures.ThreadPoolExecutor() as pool:
        other = pool.submit(hold, coordinator, 1, count=2, timeout=5)
        (said,) = hold(coordinator, 0, count=3, timeout=5)
        assert said in other.result()
    assert "process 1 was started as one of 2, process 0 as one of 3" in said


def test_a_port_in_use_is_named_and_strangers_are_not_counted(coordinator: str) -> None:
    port = int(coordinator.rpartition(":")[2])
    with socket.create_server(("", port)):
        (said,) = hold(coordinator, 0, count=2, timeout=1)
        assert f"port {port}" in said and "another port" in said
    with futures.ThreadPoolExecutor() as pool:
        waiting = pool.submit(hold, coordinator, 0, count=2, timeout=2)
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 200, b"mdc_jax process -1 of 2\n"):
            connect(port).sendall(garbage)
        assert "process 1 of 2 did not come" in waiting.result()[0]


def test_flags_that_cannot_work(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"--process_id=2.*0\.\.1"):
        distributed.initialize("host:1", 2, 2)
    with pytest.raises(ConfigError, match="HOST:PORT"):
        distributed.initialize("host", 2, 1)
    for name in ("SLURM_JOB_ID", "OMPI_MCA_orte_hnp_uri"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="--coordinator=auto: this is no TPU pod"):
        distributed.initialize("auto", 1, 0)


def test_one_machine_of_a_slice_alone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its TPU waits for the others, in a call that says nothing and cannot be interrupted."""
    monkeypatch.delenv("TPU_PROCESS_BOUNDS", raising=False)
    for name, value in SLICE.items():  # no machine of Google Cloud is asked for
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(cloud_tpu_cluster, "running_in_cloud_tpu_vm", True)
    monkeypatch.setattr(cloud_tpu_cluster.GkeTpuCluster, "_get_num_slices", staticmethod(lambda: 1))
    with pytest.raises(ConfigError, match=r"one of the 4 machines .* --coordinator=auto.* --worker=all"):
        distributed.initialize("", 1, 0)
    platforms = jax.config.jax_platforms
    distributed.refuse_part_of_slice()  # these tests run on CPUs
    try:
        jax.config.update("jax_platforms", None)
        with pytest.raises(ConfigError, match=r"one of the 4 machines .*: do this on a single machine"):
            loading.load("/nowhere")
    finally:
        jax.config.update("jax_platforms", platforms)
    for name, value in (("TPU_WORKER_HOSTNAMES", "localhost"), ("TPU_PROCESS_BOUNDS", "1,1,1")):
        monkeypatch.setenv(name, value)
        distributed.initialize("", 1, 0)


def test_a_slice_that_cannot_be_asked_for_is_no_reason_to_refuse_a_start(monkeypatch, caplog) -> None:
    def silent(*_: object) -> bool:
        raise OSError("no metadata")

    monkeypatch.delenv("TPU_PROCESS_BOUNDS", raising=False)
    monkeypatch.setattr(cloud_tpu_cluster.GceTpuCluster, "is_env_present", silent)
    with caplog.at_level("WARNING"):
        distributed.initialize("", 1, 0)
    assert "could not be found out (OSError('no metadata'))" in caplog.text and "--coordinator=auto" in caplog.text


def test_a_command_that_one_machine_of_four_starts_ends_with_what_to_do(
    coordinator: str, tmp_path: pathlib.Path
) -> None:
    config = tmp_path / "config.py"
    config.write_text(CONFIG)
    alone = [f"--config={config}", f"--workdir={tmp_path / 'run'}"]
    joined = [*alone, f"--coordinator={coordinator}", "--num_processes=4"]
    for arguments, reason in (
        ([*joined, "--process_id=0"], "processes 1, 2, 3 of 4 did not come within 1 s"),
        ([*joined, "--process_id=3"], f"process 3 of 4: process 0 did not come to {coordinator}"),
        (alone, "this is one of the 4 machines of a TPU slice"),
    ):
        done = commands.run("mdc_jax.main", *arguments, environment=SLICE, timeout=100)
        assert done.returncode == 1 and not (tmp_path / "run").exists()
        assert reason in done.stderr and "--worker=all" in done.stderr and "Traceback" not in done.stderr
