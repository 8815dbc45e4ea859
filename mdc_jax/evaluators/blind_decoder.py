"""A decoder that was trained without images, beside the model that is evaluated."""

import dataclasses
import functools
from typing import Any

import jax

from mdc_jax.config import ConfigError, sections
from mdc_jax.evaluators.base import Subject
from mdc_jax.exchange import loading
from mdc_jax.objectives.base import Features, Objective, Params

# The kind of scores, and of those that have such settings what they are of (the length, pads, words alone) and on which
# ratios. Scores of an autoregressive order, or share, are all of log p(caption).
_MUST_AGREE = (
    "objective.name",
    "objective.interval",
    "objective.ratio",
    "objective.padding",
    "objective.mask_eos",
    "objective.mask_words",
    "data.max_tokens",
)


@functools.partial(jax.tree_util.register_dataclass, data_fields=("params",), meta_fields=("objective",))
@dataclasses.dataclass(frozen=True)
class BlindDecoder:
    objective: Objective
    params: Params

    def features(self, batch: int) -> Features:
        """What stands for the images it never saw."""
        features: Any = self.objective.null_features(self.params, batch)
        return features


def check(config: sections.Config, workdir: str) -> None:
    """Raises ConfigError where `workdir`, a run or an export of one, saw images, or was trained in a way with which its
    scores say something else than those of a run with `config`."""
    _check(config, loading.config_of(workdir), workdir)


def load(subject: Subject, workdir: str) -> BlindDecoder:
    """Loads a run, or an export of one; raises ConfigError as `check`, and for another tokenizer."""
    loaded = loading.load(workdir, mesh=subject.mesh)
    _check(subject.config, loaded.config, workdir)
    if loaded.tokenizer.hash != subject.tokenizer.hash:
        raise ConfigError(f"blind_workdir={workdir}: it has another tokenizer, so that its tokens are not the same")
    return BlindDecoder(loaded.objective, loaded.params)


def _check(config: sections.Config, blind: sections.Config, workdir: str) -> None:
    if getattr(blind.objective, "null_image_rate", 0.0) < 1:
        raise ConfigError(f"blind_workdir={workdir}: it saw images; train one with objective.null_image_rate=1.0")
    for key in _MUST_AGREE:
        own, other = _setting(config, key), _setting(blind, key)
        if own != other:
            raise ConfigError(
                f"blind_workdir={workdir}: it has {key}={other!r} where this run has {own!r}, so that their scores "
                "cannot be compared: train one with the same setting"
            )


def _setting(config: sections.Config, key: str) -> Any:
    """The value of "section.name"; None where an objective has no such setting."""
    section, name = key.split(".")
    return getattr(getattr(config, section), name, None)
