"""What a run was made with: code, libraries, hardware and data."""

import importlib.metadata
import os
import pathlib
import platform
import subprocess
from typing import Any

import jax
from etils import epath

import mdc_jax
from mdc_jax import files
from mdc_jax.comparison.entries import total_steps
from mdc_jax.config import sections
from mdc_jax.data.sources import open_source

FILE = "provenance.jsonl"  # of a run; a line for each of its starts
_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy")
_ROOT = pathlib.Path(mdc_jax.__file__).parents[1]


def code() -> dict[str, Any]:
    """The version of the package and its commit in git; `commit` is None where there is none to ask."""
    version = {"version": mdc_jax.__version__, "commit": None, "dirty": None}
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    return version if commit is None else {**version, "commit": commit, "dirty": bool(changes)}


def hardware() -> dict[str, Any]:
    """Devices that JAX computes on, the host's cores, and the versions of libraries."""
    return {
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "libraries": {name: importlib.metadata.version(name) for name in _LIBRARIES},
    }


def data(config: sections.Config) -> dict[str, dict[str, str]]:
    """The source of each split, and the hash of what it holds."""
    specs = {split: getattr(config.data, split) for split in ("train", "validation", "test")}
    return {split: {"source": spec, "sha256": open_source(spec).fingerprint} for split, spec in specs.items() if spec}


def record(workdir: epath.Path, config: sections.Config) -> None:
    """Adds a line to the file of a run that is about to start, whose duration is in steps."""
    line = {"steps": total_steps(config), "code": code(), "hardware": hardware(), "data": data(config)}
    files.write_json_lines(workdir / FILE, [*read(workdir), line])


def read(workdir: epath.Path) -> list[dict[str, Any]]:
    """The starts of a run, in order."""
    return files.read_json_lines(workdir / FILE)


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
