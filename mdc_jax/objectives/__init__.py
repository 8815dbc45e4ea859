"""Training objectives. A new one is a section of the config, a file here and a line below."""

from collections.abc import Callable, Mapping

import numpy as np

from mdc_jax.config import sections
from mdc_jax.objectives.autoregressive import Autoregressive
from mdc_jax.objectives.base import Objective, Score
from mdc_jax.objectives.cappa import CapPa
from mdc_jax.objectives.contrastive import Clip, SigLip
from mdc_jax.objectives.fixed_ratio import MaskedLM, Parallel
from mdc_jax.objectives.masked import MaskedDiffusion
from mdc_jax.objectives.supervised import Supervised
from mdc_jax.ops.cross_entropy import Split

_OF_SECTION = {
    sections.MaskedDiffusion: MaskedDiffusion,
    sections.MaskedLM: MaskedLM,
    sections.Parallel: Parallel,
    sections.Autoregressive: Autoregressive,
    sections.CapPa: CapPa,
    sections.Clip: Clip,
    sections.SigLip: SigLip,
    sections.Supervised: Supervised,
}
# A section without its objective fails here, on import.
OBJECTIVES: Mapping[str, type[Objective]] = {
    name: _OF_SECTION[section] for name, section in sections.OBJECTIVES.items()
}


def build(
    section: sections.Objective,
    *,
    model: sections.Model,
    image: sections.Image,
    vocab_size: int,
    max_tokens: int,
    split: Split | None = None,
    word_starts: Callable[[], np.ndarray] | None = None,
) -> Objective:
    """Builds the objective that `section.name` names.

    Args:
      section: its settings.
      model: sizes of encoder and decoder, and how they are computed.
      image: what the encoder sees.
      vocab_size: V, tokens that can be predicted; MASK is not one of them.
      max_tokens: L, caption length in tokens, EOS included.
      word_starts: see `Tokenizer.word_starts`, for objectives that mask words; None: every token is one.
      split: of the batch and the vocabulary over devices; None: one device has all.

    Raises ValueError where sizes do not fit, or for an unknown name.
    """
    if section.name not in OBJECTIVES:
        raise ValueError(f'objective "{section.name}": choose one of {", ".join(OBJECTIVES)}')
    words = {"word_starts": word_starts} if hasattr(section, "mask_words") else {}
    return OBJECTIVES[section.name](
        section, model=model, image=image, vocab_size=vocab_size, max_tokens=max_tokens, split=split, **words
    )


__all__ = ["OBJECTIVES", "Objective", "Score", "build"]
