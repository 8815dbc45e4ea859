"""The benchmark counts what it says."""

import dataclasses
import pathlib

import pytest

from mdc_jax import command
from mdc_jax.benchmarks import length_buckets, step
from mdc_jax.config import parse, sections
from mdc_jax.data.captions import make_tokenizer
from mdc_jax.data.sources import open_source

ROOT = pathlib.Path(__file__).parents[2]


def test_with_buckets_fewer_tokens_are_pads():
    data = sections.Data(train="scenes:train,size=16", batch_size=8, max_tokens=36)
    tokens = sections.Tokenizer(algorithm="bpe", vocab_size=256, byte_fallback=False, train_captions=500)
    plain = sections.Config(image=sections.Image(size=16), data=data, tokenizer=tokens)
    bucketed = dataclasses.replace(plain, data=dataclasses.replace(data, buckets=(9, 13, 36)))
    tokenizer = make_tokenizer(plain, open_source(data.train))
    keys = ("image", "text", "length", "_mask")
    without, with_ = (length_buckets.make(config, tokenizer, keys, 32) for config in (plain, bucketed))
    assert without.lengths == {36: 32}
    assert set(with_.lengths) == set(with_.examples) == {9, 13, 36}
    assert with_.lengths.total() == 32
    # Both hold the same captions.
    tokens = sum(length * count for length, count in with_.lengths.items())
    assert with_.real * tokens == pytest.approx(without.real * 36 * 32)
    assert with_.real > 1.3 * without.real


def test_the_step_is_timed_at_every_length():
    config = parse(command.load(str(ROOT / "configs" / "scenes.py:runlocal")))
    batch = step.make_batch(config, vocab_size=300, caption_tokens=5)
    shorter = {**batch, "text": batch["text"][..., :9]}
    spent = length_buckets.time_steps(config, 300, {18: batch, 9: shorter}, timings=1)
    assert set(spent) == {18, 9} and all((times > 0).all() for times in spent.values())
