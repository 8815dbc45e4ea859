"""Several processes of one run, on this machine."""

import pathlib
import socket
from concurrent import futures

import numpy as np
import pytest

from tests.end_to_end.command_line import TINY, finish, outcome, start, train


@pytest.mark.slow
def test_two_processes_train_and_restore(tmp_path: pathlib.Path) -> None:
    first = _train_with_two_processes(tmp_path, "--config.duration=10 steps")
    assert "from scratch" in first
    second = _train_with_two_processes(tmp_path, "--config.duration=15 steps")
    assert "from step 10" in second
    assert outcome(tmp_path).step == 15

    # One process on two devices does the same.
    alone = tmp_path / "alone"
    train(alone, "--config.duration=10 steps", devices=2)
    train(alone, "--config.duration=15 steps", devices=2)
    losses, expected = ([loss for _, loss in outcome(workdir).losses] for workdir in (tmp_path, alone))
    np.testing.assert_allclose(losses, expected, rtol=1e-4)


def _train_with_two_processes(workdir: pathlib.Path, *arguments: str) -> str:
    """Returns what process 0 printed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{probe.getsockname()[1]}"
    flags = [
        f"--config={TINY}",
        f"--workdir={workdir}",
        f"--coordinator={coordinator}",
        "--num_processes=2",
        *arguments,
    ]
    processes = [start(*flags, f"--process_id={index}") for index in range(2)]
    with futures.ThreadPoolExecutor() as pool:  # both outputs are read at once: a full pipe would stop its process
        results = list(pool.map(finish, processes))
    assert [code for code, _ in results] == [0, 0], "\n".join(output for _, output in results)
    return results[0][1]
