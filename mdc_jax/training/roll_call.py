"""All processes of a run report to process 0 before they join, so that it is said which ones did not come.

`jax.distributed.initialize` waits for all of them too, but when one is missing it aborts, and does not say which.
"""

import socket
import time
from collections.abc import Iterable

from mdc_jax.config import ConfigError

_GREETING = "mdc_jax process"
_READY = "ready"
_NOTICE_AFTER = 10.0  # seconds of waiting, of which a user should hear
_SLACK = 5.0  # seconds that others wait longer than process 0, so that they hear its reason and not their own clock
FIX = (
    "Start the same command on every host; on a TPU slice: gcloud compute tpus tpu-vm ssh NAME --worker=all "
    "--command=..."
)


def hold(coordinator: str, count: int, process: int, *, timeout: float) -> None:
    """Returns in all processes once all of them have come.

    Args:
      coordinator: HOST:PORT of process 0, where nothing listens yet.
      count: processes of the run.
      process: which of them this is.
      timeout: seconds that each waits for the others.

    Raises:
      ConfigError: some did not come, which are named; or they do not agree on their number.
    """
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"--coordinator={coordinator}: write HOST:PORT of process 0, or auto")
    if process == 0:
        _call(int(port), count, timeout)
    else:
        _report(host, int(port), count, process, timeout)


def _call(port: int, count: int, timeout: float) -> None:
    came: dict[int, socket.socket] = {}
    twice: set[int] = set()
    problem, noticed = "", False
    start = time.monotonic()
    with _listen(port) as server:
        while len(came) < count - 1 and not problem:
            waited = time.monotonic() - start
            missing = sorted(set(range(1, count)) - came.keys())
            if waited >= timeout:
                also = f" ({_name(twice)} came twice: is --process_id different everywhere?)" if twice else ""
                problem = f"{_name(missing)} of {count} did not come within {timeout:.0f} s{also}. {FIX}"
                break
            if waited >= _NOTICE_AFTER and not noticed:
                noticed = True
                print(f"waiting for {_name(missing)} of {count}, up to {timeout:.0f} s", flush=True)
            server.settimeout(min(timeout - waited, _NOTICE_AFTER))
            try:
                connection, _ = server.accept()
                connection.settimeout(5)
                words = connection.recv(100).decode(errors="replace").removeprefix(_GREETING).split()
                process, processes = int(words[0]), int(words[2])
            except (OSError, ValueError, IndexError):  # nobody yet, or somebody else
                continue
            if processes == count and not 0 < process < count:
                continue
            if processes != count:
                problem = f"process {process} was started as one of {processes}, process 0 as one of {count}"
            twice |= came.keys() & {process}
            came[process] = connection
    for connection in came.values():
        try:
            connection.sendall(f"{_GREETING} {problem or _READY}\n".encode())
            connection.close()
        except OSError:
            continue  # it has gone again, which jax.distributed will notice
    if problem:
        raise ConfigError(problem)


def _listen(port: int) -> socket.socket:
    try:
        if socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        return socket.create_server(("", port))
    except OSError as error:
        raise ConfigError(
            f"process 0 cannot listen on port {port} ({error.strerror}): stop the run that does, or choose another port"
        ) from error


def _report(host: str, port: int, count: int, process: int, timeout: float) -> None:
    start = time.monotonic()
    reason = ""
    while time.monotonic() - start < timeout:
        try:
            with socket.create_connection((host, port), timeout=5) as connection:
                connection.sendall(f"{_GREETING} {process} of {count}\n".encode())
                connection.settimeout(timeout + _SLACK)
                answer = connection.makefile(errors="replace").readline()
            if answer.startswith(_GREETING):
                break
            reason = "what listens there is no process 0 that waits for others"
        except OSError as error:
            reason = str(error)
        time.sleep(0.2)
    else:
        raise ConfigError(
            f"process {process} of {count}: process 0 did not come to {host}:{port} within {timeout:.0f} s ({reason}). "
            f"{FIX}"
        )
    problem = answer.removeprefix(_GREETING).strip()
    if problem != _READY:
        raise ConfigError(problem)


def _name(processes: Iterable[int]) -> str:
    numbers = sorted(processes)
    return f"process{'es' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
