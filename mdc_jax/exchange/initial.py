"""`config.init_from`: a run that starts from the weights of another, or from a released encoder.

The encoder must fit, with its positions resampled where the grid is another. What else there is (a decoder, a text
encoder) is loaded where all of it fits and the tokens mean the same, and left as it was initialised where not.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from mdc_jax.config import ConfigError, sections
from mdc_jax.data.tokenizer import Tokenizer
from mdc_jax.exchange import loading, positions, trees
from mdc_jax.objectives import sizes

_ENCODER, _POSITIONS = "encoder", "encoder/positions"
# Their number of heads shows in no shape.
_HEADS: Mapping[str, Callable[[sections.Model], int]] = {
    "decoder": lambda model: sizes.decoder_sizes(model)["heads"],
    "text_encoder": lambda model: sizes.text_encoder_sizes(model)["heads"],
}
_COMPUTED = ("class_token", "patch_norm", "gelu", "layer_norm_epsilon", "position")


@dataclasses.dataclass(frozen=True)
class Source:
    """Weights to start from, by name, with what they were trained for."""

    leaves: Mapping[str, np.ndarray]
    model: sections.Model
    image: sections.Image | None  # None: it is not known
    tokenizer: str  # its hash; "": there is none
    resample: positions.Resample
    left_out: tuple[str, ...]


def start(config: sections.Config, tokenizer: Tokenizer, fresh: Any) -> tuple[Any, str]:
    """Puts the weights of `config.init_from` in the place of `fresh` parameters, on the same devices.

    Returns the parameters, and an account of what was loaded, resampled and left fresh. Raises ConfigError where the
    encoder or its preprocessing does not fit, with what to change.
    """
    source = _open(config.init_from)
    _check_encoder(config, source, fresh)
    _check_image(config, source)
    loaded, account = {}, [f"weights of {config.init_from}:"]
    shapes = {name: leaf.shape for name, leaf in trees.flat(fresh).items()}
    for group in dict.fromkeys(name.split("/")[0] for name in shapes):
        names = [name for name in shapes if name.split("/")[0] == group]
        found = {name: source.leaves[name] for name in names if name in source.leaves}
        reason, note = "", ""
        if group == _ENCODER:
            found, note = _resampled(found, shapes, source.resample)
        else:
            reason = _misfit(group, found, {name: shapes[name] for name in names}, config, source, tokenizer)
        size = sum(int(np.prod(shapes[name])) for name in names) / 1e6
        account.append(
            f"  {group}: " + (f"left fresh, {reason}" if reason else f"{size:.2f} M parameters loaded{note}")
        )
        loaded |= {} if reason else found
    if source.left_out:
        account.append(f"  not used: {', '.join(_roots(source.left_out))}")

    def chosen(path: jax.tree_util.KeyPath, leaf: jax.Array) -> jax.Array:
        name = trees.name_of(path)
        return trees.placed(loaded[name].astype(leaf.dtype), leaf.sharding) if name in loaded else leaf

    return jax.tree_util.tree_map_with_path(chosen, fresh), "\n".join(account)


def _open(path: str) -> Source:
    encoder = loading.read_encoder(path)
    if encoder is None:
        model = loading.load(path)
        return Source(
            trees.on_host(model.params),
            model.config.model,
            model.config.image,
            model.tokenizer.hash,
            positions.antialiased_bicubic,
            (),
        )
    leaves = {f"{_ENCODER}/{name}": leaf for name, leaf in encoder.leaves.items()}
    return Source(leaves, sections.Model(encoder.section), encoder.image, "", encoder.resample, encoder.left_out)


def _check_encoder(config: sections.Config, source: Source, fresh: Any) -> None:
    """Raises ConfigError with every difference, the shapes it shows in, and the overrides that mend it."""
    here, there = config.model.encoder, source.model.encoder
    wanted = dataclasses.asdict(sizes.encoder_sizes(here)) | {name: getattr(here, name) for name in _COMPUTED}
    given = dataclasses.asdict(sizes.encoder_sizes(there)) | {name: getattr(there, name) for name in _COMPUTED}
    if here.position == there.position == "sincos2d":
        wanted["position_std"], given["position_std"] = here.position_std, there.position_std
    differing = [name for name in wanted if wanted[name] != given[name]]
    lines = [f"  model.encoder.{name}: {given[name]!r} there, {wanted[name]!r} here" for name in differing]
    for name, leaf in trees.flat({_ENCODER: fresh[_ENCODER]}).items():
        shape = source.leaves[name].shape if name in source.leaves else "none"
        if shape != leaf.shape and (name != _POSITIONS or shape[-1:] != leaf.shape[-1:]):
            lines.append(f"  {name}: {shape} there, {leaf.shape} here")
    if lines:
        overrides = " ".join(f"--config.model.encoder.{name}={given[name]}" for name in differing)
        shown = "\n".join(lines[: len(differing) + 3])
        raise ConfigError(
            f"init_from={config.init_from} has another encoder:\n{shown}\n"
            + (f"set {overrides}" if overrides else "these weights are no whole encoder: fetch them again")
        )


def _check_image(config: sections.Config, source: Source) -> None:
    """Raises ConfigError where pixels come to the encoder on another scale than it was trained with."""
    if source.image is None:
        return
    for key in ("mean", "std"):
        here, there = getattr(config.image, key), getattr(source.image, key)
        if not np.allclose(here, there, atol=0.1):
            fix = ",".join(f"{value:g}" for value in there)
            raise ConfigError(
                f"image.{key}={here}: the encoder of init_from={config.init_from} was trained with {there}; "
                f'set --config.image.{key}="({fix})"'
            )


def _resampled(
    found: dict[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], resample: positions.Resample
) -> tuple[dict[str, np.ndarray], str]:
    """The encoder with its positions on the grid that `shapes` asks for, and a note where that is another."""
    if _POSITIONS not in shapes or found[_POSITIONS].shape == shapes[_POSITIONS]:
        return found, ""
    table, new = found[_POSITIONS], round(shapes[_POSITIONS][0] ** 0.5)
    old = round(len(table) ** 0.5)
    grid = resample(table.reshape(old, old, -1), new)
    note = f", positions resampled from {old} x {old} to {new} x {new} ({resample.__name__.strip('_')})"
    return {**found, _POSITIONS: grid.reshape(new * new, -1)}, note


def _misfit(
    group: str,
    found: Mapping[str, np.ndarray],
    shapes: Mapping[str, tuple[int, ...]],
    config: sections.Config,
    source: Source,
    tokenizer: Tokenizer,
) -> str:
    """Why a part other than the encoder cannot be loaded; "" where it can."""
    if not found:
        return "there is none"
    for name, shape in shapes.items():
        if name not in found or found[name].shape != shape:
            return f"{name} is {found[name].shape if name in found else 'missing'} there and {shape} here"
    heads = _HEADS.get(group)
    if heads and heads(source.model) != heads(config.model):
        return f"it has {heads(source.model)} heads there and {heads(config.model)} here"
    if source.tokenizer != tokenizer.hash:
        return "it knows another tokenizer (config.tokenizer.model can name the tokenizer.model beside those weights)"
    return ""


def _roots(names: tuple[str, ...]) -> list[str]:
    """What several parameters have in common: the first part of their names that tells them apart."""
    return list(dict.fromkeys("/".join(name.replace(".", "/").split("/")[:2]) for name in names))
