"""Captions to token ids and back: one contract (`base.py`), a file per kind of model."""

from mdc_jax.data.tokenizer.base import Tokenizer
from mdc_jax.data.tokenizer.sentence_piece import train

__all__ = ["Tokenizer", "train"]
