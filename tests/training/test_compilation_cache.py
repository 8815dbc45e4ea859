"""A second process finds what the first compiled, where it was told to look."""

import os
import pathlib
import subprocess
import sys

import jax
import pytest

from mdc_jax.training import compilation_cache


def run(environment: dict[str, str]) -> None:
    code = "import jax; from mdc_jax.training import compilation_cache as c; c.enable(); jax.jit(lambda x: x + 1)(1.0)"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX_") and name != "XLA_FLAGS"}
    subprocess.run([sys.executable, "-c", code], env={**kept, "JAX_PLATFORMS": "cpu", **environment}, check=True)


@pytest.mark.slow
def test_programs_are_kept_in_the_users_cache_or_where_the_environment_says(tmp_path: pathlib.Path) -> None:
    cache, other = tmp_path / "cache", tmp_path / "other"
    run({"XDG_CACHE_HOME": str(cache)})
    assert list((cache / "mdc_jax" / "jax").iterdir())
    environment = {"JAX_COMPILATION_CACHE_DIR": str(other), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    run({"XDG_CACHE_HOME": str(tmp_path / "unused"), **environment})
    assert list(other.iterdir()) and not (tmp_path / "unused").exists()


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    before = jax.config.jax_compilation_cache_dir
    compilation_cache.enable()
    assert jax.config.jax_compilation_cache_dir == before
