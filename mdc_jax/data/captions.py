"""The captions of a source, without its images: read evenly, drawn, and what a tokenizer is trained on."""

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np

from mdc_jax.config import ConfigError, sections
from mdc_jax.data.plan import plan_of
from mdc_jax.data.readers import read_ahead
from mdc_jax.data.retries import Retries
from mdc_jax.data.sources.base import BadRecord, Record, Source
from mdc_jax.data.texts import has_words
from mdc_jax.data.tokenizer import Tokenizer
from mdc_jax.data.tokenizer import train as train_tokenizer

_FEW_CAPTIONS, _FEW_RECORDS = 1_000, 200  # that tell about one caption in a hundred; records come with their images
DRAWN = 1  # the purpose of random numbers that choose among the captions of a record


def read_captions(source: Source, limit: int) -> Iterator[str]:
    """The captions of at most `limit` records, spread evenly over the source; damaged records are left out.

    Of captions that have weights one is drawn, so that every column has its share.
    """

    def read(index: int) -> Sequence[str]:
        try:
            text = text_of(source, index, retries)
        except BadRecord:
            return ()
        if not text.weights:
            return text.captions
        rng = np.random.default_rng((index, DRAWN))
        return [text.captions[choice] for choice in draw(rng, len(text.captions), 1, text.weights)]

    indices = plan_of(source, seed=0, shuffle=False).spread(min(limit, len(source)))
    with contextlib.closing(Retries()) as retries:
        for captions in read_ahead(read, indices):
            yield from filter(has_words, captions)


def make_tokenizer(config: sections.Config, source: Source) -> Tokenizer:
    """Loads the configured tokenizer, or trains one on the captions of `source`; raises ConfigError."""
    try:
        if config.tokenizer.model:
            return Tokenizer.load(config.tokenizer.model)
    except (ValueError, FileNotFoundError) as error:
        raise ConfigError(f"tokenizer: {error}") from error
    try:
        return train_tokenizer(read_captions(source, config.tokenizer.train_captions), config.tokenizer)
    except ValueError as error:
        raise ConfigError(f"tokenizer, of the captions of {source.spec}: {error}") from error


def share_cut(source: Source, tokenizer: Tokenizer, max_tokens: int) -> float:
    """The share of captions that have more tokens than are read, of some records."""
    few = _FEW_CAPTIONS if hasattr(source, "captions") else _FEW_RECORDS
    longer = [len(tokenizer.encode(text, max_tokens + 1)) > max_tokens for text in read_captions(source, few)]
    return sum(longer) / max(len(longer), 1)


def text_of(source: Source, index: int, retries: Retries) -> Record:
    """A record for its captions alone, without the image where the source has them at less cost."""
    if hasattr(source, "captions"):
        return Record(b"", retries(source.captions, source.spec, index))
    return retries(source.__getitem__, source.spec, index)


def draw(rng: np.random.Generator, number: int, count: int, weights: Sequence[float]) -> np.ndarray:
    """`count` of range(number), none twice; fewer where fewer have a weight above 0."""
    if not weights:
        return rng.permutation(number)[:count]
    return rng.choice(number, min(count, np.count_nonzero(weights)), replace=False, p=weights)
