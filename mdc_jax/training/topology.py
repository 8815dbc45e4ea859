"""Devices that need not be there: programs are compiled for them, and never run."""

import importlib.util
import os
import re

import jax
from jax.experimental import topologies

from mdc_jax.config import ConfigError

_EXAMPLES = "v5e:1x1, v5e:4x4 and v5e:16x16 (one and more chips), v6e:4x4, v5p:2x2x1, or cpu:8 for fake CPU devices"

_ALONE = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


class CompilerMissing(ConfigError):
    """The compiler of TPUs is not installed."""


def devices(name: str) -> list[jax.Device]:
    """The devices of a TPU topology as in "v5e:16x16", from the compiler of TPUs, or as many CPU devices as in "cpu:8".

    To be called before JAX is used, which then runs on the CPU. Raises ConfigError for a name that is not known, and
    CompilerMissing.
    """
    kind, _, layout = name.partition(":")
    if not re.fullmatch(r"\d+(x\d+)*", layout):
        raise ConfigError(f"--dry_compile={name}: expected a kind and a layout, as {_EXAMPLES}")
    sizes = [int(size) for size in layout.split("x")]
    jax.config.update("jax_platforms", "cpu")  # also where there is a TPU, which another process may hold
    return _cpus(name, *sizes) if kind == "cpu" and len(sizes) == 1 else _tpus(name, sizes)


def _cpus(name: str, count: int) -> list[jax.Device]:
    try:
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError:  # JAX runs already, as in tests
        if jax.device_count() < count:
            raise ConfigError(
                f"--dry_compile={name}: JAX was started with {jax.device_count()} CPU devices; use a fresh process"
            ) from None
    return jax.devices()[:count]


def _tpus(name: str, sizes: list[int]) -> list[jax.Device]:
    if importlib.util.find_spec("libtpu") is None:
        raise CompilerMissing(
            f"--dry_compile={name}: the compiler of TPUs is not installed: pip install -r requirements-tpu-compile.txt"
        )
    # Nothing of this holds a chip: without these it asks the network which TPU this machine is a part of, complains,
    # and refuses where another process uses it.
    for variable, value in _ALONE.items():
        os.environ.setdefault(variable, value)
    # A host has 2 x 2 chips, unless there are fewer.
    host = tuple(min(size, most) for size, most in zip((*sizes, 1, 1), (2, 2, 1), strict=False))
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=name, chips_per_host_bounds=host)
    except jax.errors.JaxRuntimeError as error:
        raise ConfigError(f"--dry_compile={name}: {error}; choose one as {_EXAMPLES}") from error
    return list(found.devices)
