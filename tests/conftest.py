"""All tests run on 8 fake CPU devices, and a broadcast between different ranks is an error."""

import gc
import os
import pathlib
from collections.abc import Iterator

import pytest

from tests import commands

# What JAX reads when it is imported, which another conftest may do before any hook runs; processes that tests start
# inherit it.
_GIVEN = os.environ.get("XLA_FLAGS", "")
os.environ |= {
    "JAX_PLATFORMS": "cpu",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
    # Threads of BLAS that wait for each other on shared cores make small products many times slower.
    "OPENBLAS_NUM_THREADS": "1",
    # XLA's threads. Each device waits in one of them for every collective that is under way: with no more threads than
    # devices, those that the others wait for may never get one, and after 40 seconds XLA aborts the process.
    "NPROC": "64",
    # Programs are compiled for longer than they run.
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    # Compilations are kept, so that a second run of the tests is fast.
    "JAX_COMPILATION_CACHE_DIR": str(commands.ROOT / ".pytest_cache" / "jax"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
}
if (_needed := commands.xla_flags(devices=8)) not in _GIVEN:
    os.environ["XLA_FLAGS"] = f"{_GIVEN} {_needed}".strip()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole runs come first: one that begins when all others are done is waited for by every other worker."""
    items.sort(key=lambda item: "end_to_end" not in item.path.parts)


@pytest.fixture(scope="module", autouse=True)
def few_mappings() -> Iterator[None]:
    """Every compiled function takes some mappings of memory, of which Linux gives a process 65,530: then it crashes."""
    yield
    mappings = pathlib.Path("/proc/self/maps")
    if mappings.exists() and mappings.read_bytes().count(b"\n") > 25_000:
        import jax

        jax.clear_caches()
        gc.collect()


@pytest.fixture
def optimized() -> Iterator[None]:
    """For programs that run for longer than they are compiled."""
    import jax

    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)
