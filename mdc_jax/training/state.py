"""The training state and the one compiled step that advances it."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax

from mdc_jax.config import sections
from mdc_jax.objectives.base import Objective
from mdc_jax.training import sharding
from mdc_jax.training.optimizer import Rules, make_optimizer, without_frozen

INIT, CORRUPT, THIN = range(3)  # what a key is for; keys are folded from (seed, step, purpose)

_Tree = TypeVar("_Tree")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    step: jax.Array  # i32[], steps done
    params: Any
    opt_state: Any
    ema: Any  # averaged parameters, or None

    @property
    def evaluated(self) -> Any:
        """The parameters that evaluation uses: the averaged ones where there are any."""
        return self.params if self.ema is None else self.ema


def key_for(seed: int, step: int | jax.Array, purpose: int) -> jax.Array:
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), step), purpose)


def make_init(
    objective: Objective, optimizer: optax.GradientTransformation, *, seed: int, ema: bool
) -> Callable[[], State]:
    """Returns a function without arguments that builds the initial state."""

    def init() -> State:
        params = objective.init(key_for(seed, 0, INIT))
        averaged = jax.tree.map(jnp.copy, params) if ema else None
        return State(jnp.zeros((), jnp.int32), params, optimizer.init(params), averaged)

    return init


def sharded(init: Callable[[], _Tree], mesh: jax.sharding.Mesh) -> _Tree:
    """The abstract state or parameters, each leaf with its sharding: what init and restore have to produce."""
    abstract = jax.eval_shape(init)
    places = sharding.shardings(abstract, mesh)
    return jax.tree.map(lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), abstract, places)


def make_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    *,
    seed: int,
    accumulation: int,
    ema: float,
    lr_multipliers: Rules = (),
) -> Callable[[State, Mapping[str, jax.Array]], tuple[State, dict[str, jax.Array]]]:
    """Returns step(state, global batch) → (state, metrics as float32 scalars)."""

    def step(state: State, batch: Mapping[str, jax.Array]) -> tuple[State, dict[str, jax.Array]]:
        # Everything random is drawn before the batch is cut up: micro-batches change nothing.
        corrupted = objective.corrupt(batch, key_for(seed, state.step, CORRUPT))
        corrupted = objective.thin(corrupted, key_for(seed, state.step, THIN))
        grads, metrics = objective.gradient(state.params, corrupted, accumulation)
        grads = without_frozen(lr_multipliers, grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        # In this form the average of what does not move does not either.
        average = functools.partial(jax.tree.map, lambda old, new: old + (1 - ema) * (new - old))
        averaged = None if state.ema is None else average(state.ema, params)
        metrics = {
            **metrics,
            "grad_norm": optax.tree.norm(grads),
            "param_norm": optax.tree.norm(params),  # of what a checkpoint would hold
            "learning_rate": schedule(state.step),
        }
        if "text" in batch:
            metrics["text_tokens"] = batch["text"].shape[-1]  # pads included: with data.buckets batches differ
        metrics["masked_rows"] = 1 - jnp.mean(batch["_mask"], dtype=jnp.float32)  # of records that cannot be used
        metrics = {name: jnp.asarray(value, jnp.float32) for name, value in metrics.items()}
        return State(state.step + 1, params, opt_state, averaged), metrics

    return step


class Program(NamedTuple):
    """What runs on the devices of a mesh; compiled when it is first called."""

    init: Callable[[], State]
    abstract: State  # what `init` makes, each leaf with its sharding: what a restored state has to be
    step: Callable[[State, Mapping[str, jax.Array]], tuple[State, dict[str, jax.Array]]]  # its state is given up


def program(
    objective: Objective,
    section: sections.Optimizer,
    schedule: optax.Schedule,
    mesh: jax.sharding.Mesh,
    *,
    seed: int,
) -> Program:
    """Builds the initialisation and the training step, sharded over `mesh`."""
    optimizer = make_optimizer(section, schedule)
    init = make_init(objective, optimizer, seed=seed, ema=section.ema > 0)
    abstract = sharded(init, mesh)
    places = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    step = make_step(
        objective,
        optimizer,
        schedule,
        seed=seed,
        accumulation=section.accumulation,
        ema=section.ema,
        lr_multipliers=section.lr_multipliers,
    )
    # It runs once: on a CPU, time to optimise it is not won back.
    cpu = mesh.devices.flat[0].platform == "cpu"
    options = {"xla_backend_optimization_level": 0} if cpu else None
    return Program(
        jax.jit(init, out_shardings=places, compiler_options=options),
        abstract,
        jax.jit(
            step,
            donate_argnums=0,
            in_shardings=(places, sharding.batch_sharding(mesh)),
            out_shardings=(places, sharding.replicated(mesh)),
        ),
    )
