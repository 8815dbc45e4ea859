"""All tests run on 8 fake CPU devices, and a broadcast between different ranks is an error."""

import gc
import os
import pathlib
from collections.abc import Iterator

import pytest

from tests import commands


def pytest_configure(config: pytest.Config) -> None:
    """Sets up JAX before any test module imports it; processes that tests start inherit this."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    given, needed = os.environ.get("XLA_FLAGS", ""), commands.xla_flags(devices=8)
    if needed not in given:
        os.environ["XLA_FLAGS"] = f"{given} {needed}".strip()
    os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
    # Threads of BLAS that wait for each other on shared cores make small products many times slower.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    # Programs are compiled for longer than they run.
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    # Compilations are kept, so that a second run of the tests is fast.
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(config.cache.mkdir("jax"))
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"


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
