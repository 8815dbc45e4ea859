"""All tests run on 8 fake CPU devices, and a broadcast between different ranks is an error."""

import os
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


@pytest.fixture
def optimized() -> Iterator[None]:
    """For programs that run for longer than they are compiled."""
    import jax

    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)
