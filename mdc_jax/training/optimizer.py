"""AdamW as big vision models train with it: warm-up, cosine, decay on kernels only, clipping."""

from typing import Any

import jax
import optax

from mdc_jax.config import sections


def learning_rate(section: sections.Optimizer, warmup_steps: int, total_steps: int) -> optax.Schedule:
    """Linear warm-up from 0 to `section.lr`, then cosine decay to 0 at `total_steps`."""
    return optax.warmup_cosine_decay_schedule(0.0, section.lr, min(warmup_steps, total_steps - 1), total_steps)


def decayed(params: Any) -> Any:
    """True for the parameters that weight decay applies to: kernels, and nothing else."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def make_optimizer(section: sections.Optimizer, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Gradients (summed over micro-batches) to updates."""
    return optax.chain(
        optax.clip_by_global_norm(section.clip_norm) if section.clip_norm else optax.identity(),
        optax.scale_by_adam(section.b1, section.b2),
        optax.add_decayed_weights(section.weight_decay, mask=decayed),
        optax.scale_by_learning_rate(schedule),
    )
