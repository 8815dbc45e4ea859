"""What lies at a path: the workdir of a run, an export of one, or an encoder of another library."""

import json
from typing import Any

import jax
from etils import epath

from mdc_jax.config import ConfigError
from mdc_jax.exchange import big_vision, own, released, timm, transformers
from mdc_jax.training import checkpoint

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def load(path: epath.PathLike, *, step: int | None = None, mesh: jax.sharding.Mesh | None = None) -> checkpoint.Loaded:
    """Loads a run, at its latest checkpoint or that of `step`, or an export of one, on any number of devices.

    Raises ConfigError where there is none, or it cannot be read.
    """
    folder = epath.Path(path)
    if _description(folder).get("format") != own.FORMAT:
        return checkpoint.load(folder, step=step, mesh=mesh)
    if step is not None:
        raise ConfigError(f"{path} is an export of one step: leave out the step")
    return own.load(folder, mesh)


def read_encoder(path: epath.PathLike) -> released.Encoder | None:
    """Reads an encoder of big_vision, timm or transformers; None where the path is none of theirs.

    Raises ConfigError for files that hold one in a form that is not read, and for what our encoder cannot be.
    """
    path = epath.Path(path)
    if path.suffix == ".npz":
        return big_vision.read(path)
    about = _description(path)
    if about.get("format") == own.FORMAT or not (about.keys() & {"architecture", "model_type"}):
        _refuse_files(path)
        return None
    if not (path / own.WEIGHTS).exists():
        _refuse_files(*path.iterdir())
        raise ConfigError(f"{path} has no {own.WEIGHTS}: fetch it, or join its parts into one file")
    return timm.read(path, about) if "architecture" in about else transformers.read(path, about)


def _refuse_files(*paths: epath.Path) -> None:
    for path in paths:
        if path.suffix in _PICKLES:
            raise ConfigError(
                f"{path} is pickled, and reading it could run code: load it in the library that wrote it, and save it "
                f"there as {own.WEIGHTS} (save_pretrained in transformers, timm.models.save_for_hf in timm)"
            )
        if path.suffix == ".safetensors" and len(paths) == 1:
            raise ConfigError(f"{path}: give its folder, with the config.json that says what it is")


def _description(folder: epath.Path) -> dict[str, Any]:
    """The `config.json` of a folder; {} where there is none that can be read."""
    try:
        found = json.loads((folder / own.CONFIG).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
