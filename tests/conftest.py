"""All tests run on 8 fake CPU devices, and a broadcast between different ranks is an error."""

import os

import pytest

FAKE_DEVICES = "--xla_force_host_platform_device_count=8"


def pytest_configure(config: pytest.Config) -> None:
    """Sets up JAX before any test module imports it; processes that tests start inherit this."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    given = os.environ.get("XLA_FLAGS", "")
    if FAKE_DEVICES not in given:
        os.environ["XLA_FLAGS"] = f"{given} {FAKE_DEVICES}".strip()
    os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
    # Threads of BLAS that wait for each other on shared cores make small products many times slower.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    # Programs are compiled for longer than they run.
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    # Compilations are kept, so that a second run of the tests is fast.
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(config.cache.mkdir("jax"))
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
