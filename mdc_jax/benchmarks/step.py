"""One training step of a config on a made-up batch: compiled, measured, and counted. What benchmarks share."""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

import jax
import numpy as np

from mdc_jax.benchmarks.clock import Clock
from mdc_jax.config import ConfigError, sections
from mdc_jax.data.batch import EOS_ID, PAD_ID, UNK_ID
from mdc_jax.objectives.captioner import Captioner
from mdc_jax.objectives.sizes import compute_dtype, loops_over_layers
from mdc_jax.training import build, sharding
from mdc_jax.training import state as train_state
from mdc_jax.training.accounting import Cost
from mdc_jax.training.memory import bytes_on_a_device
from mdc_jax.training.optimizer import learning_rate

State = train_state.State
Name = TypeVar("Name")

_FIRST_WORD = 1 + max(PAD_ID, EOS_ID, UNK_ID)


@dataclasses.dataclass
class Step:
    """A compiled step, and what its compilation tells."""

    run: Callable[[State, Mapping[str, jax.Array]], tuple[State, Mapping[str, jax.Array]]]
    batch: Mapping[str, jax.Array]
    batch_size: int
    cost: Cost
    whole_logits: bool  # the output layer runs on all tokens, not only on those with a loss
    compile_seconds: float
    peak_bytes: int  # of a device: arguments, results that are not arguments given back, temporaries
    temporary_bytes: int
    gradient_bytes: int

    def flops(self, metrics: Mapping[str, float]) -> float:
        """Of the matrix products for an image, given the metrics of a step."""
        ignored = {"predicted_tokens"} if self.whole_logits else set()
        return self.cost.flops({name: value for name, value in metrics.items() if name not in ignored})


def objective_of(config: sections.Config, vocab_size: int, loss: Callable | None = None) -> Captioner:
    """The objective of a config with a vocabulary of that size, and `loss` in place of its own where given."""
    objective = build.objective(config, vocab_size, sharding.make_mesh(config.mesh))
    if loss:
        objective.weighted_loss = loss
    return objective


def check_decoder(config: sections.Config) -> None:
    """Raises ConfigError for an objective without a text decoder, of whose loss there is nothing to save."""
    if not config.objective.writes_captions:
        raise ConfigError(
            f'objective="{config.objective.name}" has no text decoder, whose loss is measured here: give another, as '
            "in configs/scenes.py:objective=autoregressive"
        )


def check_counted(config: sections.Config) -> None:
    """Raises ConfigError where the FLOPs of a step are not known: what the frozen parameters spare is not counted."""
    if any(factor == 0 for _, factor in config.optimizer.lr_multipliers):
        raise ConfigError(
            "optimizer.lr_multipliers freezes parameters, and what that spares of the backward pass is not counted: "
            "leave it out here"
        )


def resolved(config: sections.Config) -> sections.Config:
    """The config with what "auto" stands for in its model: `remat` is off, whatever the memory."""
    model = dataclasses.replace(
        config.model,
        dtype=compute_dtype(config.model.dtype).name,
        scan="on" if loops_over_layers(config.model.scan) else "off",
        remat="on" if config.model.remat == "on" else "off",
    )
    return dataclasses.replace(config, model=model)


def vocabularies(given: Sequence[str] | None, config: sections.Config) -> list[int]:
    """Sizes of vocabularies as --vocabulary has them; the config's where there are none. Raises ConfigError."""
    sizes = [int(text) if text.isdecimal() else 0 for text in given or [str(config.tokenizer.vocab_size)]]
    if min(sizes) <= _FIRST_WORD:
        raise ConfigError(
            f"--vocabulary={','.join(given or ())}: give numbers above {_FIRST_WORD}, as in --vocabulary=32000,256000"
        )
    return sizes


def make_batch(config: sections.Config, *, vocab_size: int, caption_tokens: int) -> dict[str, np.ndarray]:
    """Random images, each with captions of `caption_tokens` random tokens (at most `data.max_tokens`)."""
    rng = np.random.default_rng(0)
    size, data = config.data.batch_size, config.data
    text = rng.integers(_FIRST_WORD, vocab_size, (size, data.captions_per_image, data.max_tokens)).astype(np.int32)
    return {
        "image": rng.integers(0, 256, (size, config.image.size, config.image.size, 3), np.uint8),
        "text": text,
        "length": np.full(text.shape[:2], min(caption_tokens, data.max_tokens), np.int32),
        "_mask": np.ones(size, bool),
    }


def prepare(
    config: sections.Config,
    batch: Mapping[str, np.ndarray],
    *,
    vocab_size: int,
    loss: Callable | None = None,
    options: Mapping[str, str | int | bool] = MappingProxyType({}),
) -> tuple[Step, Callable[[], State]]:
    """Compiles the training step; also returns what makes its initial state.

    Args:
      config: the tokenizer that it asks for is not built.
      batch: as `make_batch` makes it.
      vocab_size: V.
      loss: in place of the objective's own, with the arguments of `Captioner.weighted_loss`.
      options: of the compiler.

    Raises:
      ConfigError: the mesh cannot split the batch.
    """
    mesh = sharding.make_mesh(config.mesh)
    sharding.check_batch(config.data.batch_size, config.optimizer.accumulation, mesh)
    objective = objective_of(config, vocab_size, loss)
    schedule = learning_rate(config.optimizer, 1, 1000)
    init, abstract, step = train_state.program(objective, config.optimizer, schedule, mesh, seed=config.seed)
    batch = sharding.to_global(batch, mesh, config.data.batch_size)
    started = time.perf_counter()
    compiled = step.lower(abstract, batch).compile(dict(options))
    seconds = time.perf_counter() - started
    memory = compiled.memory_analysis()
    prepared = Step(
        run=compiled,
        batch=batch,
        batch_size=config.data.batch_size,
        cost=Cost(objective, config.data.captions_per_image, jax.devices()[0].device_kind, mesh.size),
        whole_logits=loss is not None,
        compile_seconds=seconds,
        peak_bytes=memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes,
        temporary_bytes=memory.temp_size_in_bytes,
        gradient_bytes=bytes_on_a_device(abstract.params),
    )
    return prepared, init


def measure(steps: Mapping[Name, Step], state: State, repeats: int) -> dict[Name, dict[str, float]]:
    """Runs the steps in turns, `repeats` times after a first that is not counted.

    All train on one state, which they hand on. Returns of the fastest step of each its `seconds` and
    `processor_seconds` (of this process, all threads), and for an image `flops` and `predicted_tokens`, those with a
    loss, whose number another step draws anew.
    """
    found: dict[Name, dict[str, float]] = {name: {} for name in steps}
    for repeat in range(repeats + 1):
        for name, step in steps.items():
            clock = Clock()
            state, metrics = step.run(state, step.batch)
            metrics = jax.device_get(metrics)
            jax.block_until_ready(state)
            measured = clock.named()
            if repeat and measured["seconds"] < found[name].get("seconds", math.inf):
                found[name] = {
                    **measured,
                    "flops": step.flops({key: float(value) for key, value in metrics.items()}),
                    "predicted_tokens": float(metrics["predicted_tokens"]),
                }
    return found
