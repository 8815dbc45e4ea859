"""Training objectives. A new one is a file here, a line in `OBJECTIVES` and a section of the config."""

from collections.abc import Mapping

from mdc_jax.config import sections
from mdc_jax.objectives.autoregressive import Autoregressive
from mdc_jax.objectives.base import Objective, Score
from mdc_jax.objectives.masked import MaskedDiffusion
from mdc_jax.ops.cross_entropy import Split

OBJECTIVES: Mapping[str, type[Objective]] = {"masked_diffusion": MaskedDiffusion, "autoregressive": Autoregressive}


def build(
    section: sections.MaskedDiffusion | sections.Autoregressive,
    *,
    model: sections.Model,
    image: sections.Image,
    vocab_size: int,
    max_tokens: int,
    split: Split | None = None,
) -> Objective:
    """Builds the objective that `section.name` names.

    Args:
      vocab_size: V, tokens that can be predicted; MASK is not one of them.
      max_tokens: L, caption length in tokens, EOS included.
      split: of the batch and the vocabulary over devices; None: one device has all.

    Raises ValueError where sizes do not fit, or for an unknown name.
    """
    if section.name not in OBJECTIVES:
        raise ValueError(f'objective "{section.name}": choose one of {", ".join(OBJECTIVES)}')
    return OBJECTIVES[section.name](
        section, model=model, image=image, vocab_size=vocab_size, max_tokens=max_tokens, split=split
    )


__all__ = ["OBJECTIVES", "Objective", "Score", "build"]
