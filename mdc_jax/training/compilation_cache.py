"""Compiled programs are kept on disk, so that the next start of a run does not compile them again."""

import os
import pathlib

import jax


def enable() -> None:
    """Turns the cache on, in $XDG_CACHE_HOME/mdc_jax/jax or ~/.cache/mdc_jax/jax.

    JAX_COMPILATION_CACHE_DIR names another folder; an empty one turns the cache off. Where the folder
    cannot be made, there is no cache.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    try:
        home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
        folder = pathlib.Path(home) / "mdc_jax" / "jax"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # read-only, or without a home
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # A start compiles dozens of small programs, which together take seconds.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
