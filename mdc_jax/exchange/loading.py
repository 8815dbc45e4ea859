"""What lies at a path: the workdir of a run, an export of one, or an encoder of another library."""

import functools
import json
from typing import Any

import jax
from etils import epath

from mdc_jax.config import ConfigError, parse, sections
from mdc_jax.exchange import big_vision, own, released, timm, transformers
from mdc_jax.objectives.image_encoder import ImageEncoder
from mdc_jax.training import checkpoint, distributed, sharding

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def load(path: epath.PathLike, *, step: int | None = None, mesh: jax.sharding.Mesh | None = None) -> checkpoint.Loaded:
    """Loads a run, at its latest checkpoint or that of `step`, an export, or a released encoder, on any devices.

    An encoder comes without a tokenizer (None), at step 0, and encodes only. Raises ConfigError where there is nothing
    of these, or it cannot be read, and on one machine of a TPU slice.
    """
    distributed.refuse_part_of_slice()
    folder = epath.Path(path)
    exported = _is_export(folder)
    encoder = None if exported else read_encoder(folder)
    if not exported and encoder is None:
        return checkpoint.load(folder, step=step, mesh=mesh)
    if step is not None:
        raise ConfigError(f"{path} is no run with several steps: leave out the step")
    return own.load(folder, mesh) if encoder is None else _alone(encoder, path, mesh)


def config_of(path: epath.PathLike) -> sections.Config:
    """The config of a run's latest checkpoint, or of an export; raises ConfigError where there is none."""
    folder = epath.Path(path)
    return parse(own.read_meta(folder)["config"]) if _is_export(folder) else checkpoint.config_of(folder)


def read_encoder(path: epath.PathLike) -> released.Encoder | None:
    """Reads an encoder of big_vision, timm or transformers; None where the path is none of theirs.

    Raises ConfigError for files that hold one in a form that is not read, and for what our encoder cannot be.
    """
    path = epath.Path(path)
    about = _description(path)
    if path.suffix == ".npz":
        read = functools.partial(big_vision.read, path)
    elif "architecture" in about:
        read = functools.partial(timm.read, path, about)
    elif "model_type" in about:
        read = functools.partial(transformers.read, path, about)
    else:
        _refuse_files(path)
        return None
    if path.is_dir() and not (path / own.WEIGHTS).exists():
        _refuse_files(*path.iterdir())
        raise ConfigError(f"{path} has no {own.WEIGHTS}: fetch it, or join its parts into one file")
    try:
        return released.checked(read())
    except ConfigError:
        raise
    # Whatever a made-up file leads to.
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ConfigError(f"{path} is no encoder that can be read: {error!r}") from error


def _alone(encoder: released.Encoder, path: epath.PathLike, mesh: jax.sharding.Mesh | None) -> checkpoint.Loaded:
    if encoder.image is None:
        raise ConfigError(f"{path} does not say how pixels are normalised: add the model's preprocessor_config.json")
    model = sections.Model(encoder.section)
    config = sections.Config(image=encoder.image, model=model, objective=sections.ImageEncoder())
    mesh = mesh or sharding.make_mesh(sections.Mesh())
    objective = ImageEncoder(model=model, image=encoder.image, split=sharding.split(mesh))
    leaves = {f"encoder/{name}": leaf for name, leaf in encoder.leaves.items()}
    params = own.placed(path, leaves, objective, mesh)
    return checkpoint.Loaded(config, objective, params, None, mesh, 0, {})


def _refuse_files(*paths: epath.Path) -> None:
    for path in paths:
        if path.suffix in _PICKLES:
            raise ConfigError(
                f"{path} is pickled, and reading it could run code: load it in the library that wrote it, and save it "
                f"there as {own.WEIGHTS} (save_pretrained in transformers, timm.models.save_for_hf in timm)"
            )
        if path.suffix == ".safetensors" and len(paths) == 1:
            raise ConfigError(f"{path}: give its folder, with the config.json that says what it is")


def _is_export(folder: epath.Path) -> bool:
    return _description(folder).get("format") == own.FORMAT


def _description(folder: epath.Path) -> dict[str, Any]:
    """The `config.json` of a folder; {} where there is none that can be read."""
    try:
        found = json.loads((folder / own.CONFIG).read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
