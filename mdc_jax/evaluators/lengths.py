"""How long the captions of a run are.

Shapes: L tokens.
"""

import numpy as np

from mdc_jax.data.pipeline import read_captions
from mdc_jax.data.sources import open_source
from mdc_jax.evaluators.base import Subject

_CAPTIONS = 10_000  # that are counted


def training_law(subject: Subject) -> np.ndarray:
    """log of the share of training captions that have 1 ... L tokens, f32[L], EOS included.

    One caption of every length is added to those that are counted, so that no length is impossible.
    """
    most = subject.config.data.max_tokens
    source = open_source(subject.spec("train"))
    lengths = [len(subject.tokenizer.encode(caption, most)) for caption in read_captions(source, _CAPTIONS)]
    counts = 1 + np.bincount(lengths, minlength=most + 1)[1:]
    return np.log(counts / counts.sum()).astype(np.float32)
