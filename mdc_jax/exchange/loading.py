"""One function that makes a model of any path: the workdir of a run, or an export of one."""

import json
from typing import Any

import jax
from etils import epath

from mdc_jax.config import ConfigError
from mdc_jax.exchange import own
from mdc_jax.training import checkpoint


def load(path: epath.PathLike, *, step: int | None = None, mesh: jax.sharding.Mesh | None = None) -> checkpoint.Loaded:
    """Loads a run, at its latest checkpoint or that of `step`, or an export of one, on any number of devices.

    Raises ConfigError where there is none, or it cannot be read.
    """
    folder = epath.Path(path)
    if description(folder).get("format") != own.FORMAT:
        return checkpoint.load(folder, step=step, mesh=mesh)
    if step is not None:
        raise ConfigError(f"{path} is an export of one step: leave out the step")
    return own.load(folder, mesh)


def description(folder: epath.Path) -> dict[str, Any]:
    """The `config.json` of a folder; {} where there is none that can be read."""
    try:
        found = json.loads((folder / own.CONFIG).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
