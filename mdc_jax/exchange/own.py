"""Our own export: a model in a folder of three files, which is loaded like the workdir of a run.

`model.safetensors` has the parameters by name ("encoder/patch/kernel"), the averaged ones where the run has them;
`config.json` what a checkpoint's `meta` has; `tokenizer.model` the tokenizer, as in a workdir.
"""

import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from mdc_jax.config import ConfigError, parse, sections
from mdc_jax.exchange import safetensors, trees
from mdc_jax.models import vit
from mdc_jax.objectives.base import Objective, Params
from mdc_jax.objectives.sizes import encoder_sizes
from mdc_jax.training import build, checkpoint, sharding

FORMAT = "mdc_jax"
WEIGHTS, CONFIG = "model.safetensors", "config.json"
_KEPT = ("step", "position", "seconds", "config", "tokenizer", "data")


def write(loaded: checkpoint.Loaded, out: epath.Path) -> None:
    """Writes a whole model into an existing folder."""
    safetensors.write(out / WEIGHTS, trees.on_host(loaded.params), {"format": FORMAT})
    meta = {name: loaded.meta[name] for name in _KEPT}
    config = {"format": FORMAT, "format_version": checkpoint.FORMAT_VERSION, **meta}
    (out / CONFIG).write_text(json.dumps(config, indent=2))
    (out / checkpoint.TOKENIZER).write_bytes(loaded.tokenizer.model_bytes)


def read_meta(folder: epath.Path) -> Mapping[str, Any]:
    """What `write` says of a model beside its weights; raises ConfigError where that is damaged or too new."""
    meta = json.loads((folder / CONFIG).read_text())
    if wrong := checkpoint.wrong_entry(meta):
        raise ConfigError(f"{folder / CONFIG} is damaged ({wrong}): export the run again")
    if meta["format_version"] > checkpoint.FORMAT_VERSION:
        raise ConfigError(
            f"{folder} has format {meta['format_version']}, newer than this code reads ({checkpoint.FORMAT_VERSION}): "
            "update mdc_jax"
        )
    return meta


def load(folder: epath.Path, mesh: jax.sharding.Mesh | None = None) -> checkpoint.Loaded:
    """Loads a folder that `write` made; raises ConfigError where a file is missing, damaged or too new."""
    meta = read_meta(folder)
    for name in (WEIGHTS, checkpoint.TOKENIZER):
        if not (folder / name).exists():
            raise ConfigError(f"{folder / name} is missing: copy it from where this export was made")
    config = parse(meta["config"])
    tokenizer = checkpoint.load_tokenizer(folder, meta["tokenizer"])
    mesh = mesh or sharding.make_mesh(sections.Mesh())
    objective = build.objective(config, tokenizer.vocab_size, mesh, tokenizer.word_starts)
    params = placed(folder, safetensors.read(folder / WEIGHTS), objective, mesh)
    return checkpoint.Loaded(config, objective, params, tokenizer, mesh, meta["step"], meta)


def placed(
    path: epath.PathLike, leaves: Mapping[str, np.ndarray], objective: Objective, mesh: jax.sharding.Mesh
) -> Params:
    """Parameters by name, as they were read from a path, on the devices; raises ConfigError where they do not fit."""
    abstract = jax.eval_shape(objective.init, jax.random.key(0))
    check_same(path, leaves, trees.flat(abstract))
    return jax.tree.map(trees.placed, trees.nested(leaves), sharding.shardings(abstract, mesh))


def encoder_leaves(loaded: checkpoint.Loaded) -> dict[str, np.ndarray]:
    """The parameters of the image encoder by name, its positions among them also where they are fixed."""
    leaves, encoder = trees.on_host(loaded.params["encoder"]), loaded.config.model.encoder
    if encoder.position == "sincos2d":
        sizes = encoder_sizes(encoder)
        side = loaded.config.image.size // sizes.patch
        leaves["positions"] = encoder.position_std * vit.sincos2d(side, side, sizes.width)
    return leaves


def check_same(path: epath.PathLike, tensors: Mapping[str, np.ndarray], expected: Mapping[str, Any]) -> None:
    """Raises ConfigError where arrays by name have not the shapes and types that their config asks for."""
    found = {name: (array.shape, array.dtype.name) for name, array in tensors.items()}
    wanted = {name: (leaf.shape, leaf.dtype.name) for name, leaf in expected.items()}
    wrong = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
    if wrong:
        lines = "\n".join(f"  {name}: {found.get(name, 'none')}, expected {wanted.get(name, 'none')}" for name in wrong)
        raise ConfigError(f"the weights of {path} do not fit their config:\n{lines}\nfetch or export them again")
