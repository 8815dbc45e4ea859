"""Length buckets: the same examples in another order, on short canvases, for any hosts, starts and batch sizes."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdc_jax.config import ConfigError, parse, sections
from mdc_jax.data import pipeline, tokenizer
from mdc_jax.data.batch import EOS_ID
from mdc_jax.data.length_buckets import LengthBuckets
from mdc_jax.data.plan import plan_of
from mdc_jax.data.prepare import records
from mdc_jax.data.prepare.example import Example
from mdc_jax.data.prepare.lengths import Lengths
from mdc_jax.data.prepare.manifest import Manifest
from mdc_jax.data.sources import open_source
from mdc_jax.data.sources.base import BadRecord

SCENES = "scenes:train,size=16,count=300"
LIMITS = (9, 13, 24)


@pytest.fixture(scope="module")
def words():
    captions = (caption for index in range(300) for caption in open_source(SCENES).captions(index))
    return tokenizer.train(captions, sections.Tokenizer(algorithm="bpe", vocab_size=256, byte_fallback=False))


def _config(**data):
    data = {"batch_size": 8, "max_tokens": LIMITS[-1], "buckets": LIMITS} | data
    return sections.Config(seed=5, image=sections.Image(size=16), data=sections.Data(**data))


def _take(words, config, count, source=None, position=0, **options):
    source = source or open_source(SCENES)
    with pipeline.TrainBatches(source, words, config, position=position, **options) as batches:
        return list(itertools.islice(batches, count))


def _examples(batches):
    """Everything that does not depend on the length of the texts, row after row."""
    return [
        (int(batch["id"][row]), batch["image"][row].tobytes(), batch["text"][row][batch["text"][row] > 0].tobytes())
        for batch in batches
        for row in range(len(batch["id"]))
    ]


def _length(position):
    """Lengths 1 ... 24 in no order."""
    return 1 + position * 7919 % 24


@settings(deadline=None, max_examples=30)
@given(run=st.integers(1, 9), num_records=st.integers(1, 400), seed=st.integers(0, 9), window=st.integers(0, 10**9))
def test_a_window_holds_the_examples_that_stand_there_without_buckets(run, num_records, seed, window):
    buckets = LengthBuckets(_length, LIMITS, run=run, num_records=num_records, seed=seed)
    size = run * max(min(32, num_records // run), 1)
    positions = range(window * size, (window + 1) * size)
    assert sorted(map(buckets.locate, positions)) == list(positions)


def _needed(length):
    return min(limit for limit in LIMITS if limit >= length)


def test_most_runs_are_as_long_as_their_longest_caption_needs_and_few_hold_several_buckets():
    buckets = LengthBuckets(_length, LIMITS, run=8, num_records=10**6, seed=0)
    whole, mixed = [], 0
    for run in range(8 * 32):
        lengths = [_length(buckets.locate(8 * run + place)) for place in range(8)]
        canvas = buckets.canvas(8 * run, 8)
        assert canvas in (_needed(max(lengths)), LIMITS[-1])
        if canvas > _needed(max(lengths)):
            whole += lengths
        mixed += len({_needed(length) for length in lengths}) > 1
    assert mixed <= 8 * (len(LIMITS) - 1)  # windows of 32 runs
    # An eighth of the captions of the first two buckets, which are 13 of 24.
    assert len(whole) == pytest.approx(8 * 32 * 8 * 13 / 24 / 8, rel=0.1)
    assert np.mean(whole) == pytest.approx(7, abs=0.5)


def test_a_batch_is_as_long_as_the_longest_run_that_it_touches():
    buckets = LengthBuckets(_length, LIMITS, run=8, num_records=10**6, seed=0)
    runs = [buckets.canvas(8 * run, 8) for run in range(10)]
    assert buckets.canvas(4, 8) == max(runs[:2])
    assert buckets.canvas(4, 13) == max(runs[:3])
    assert [buckets.canvas(8 * run + 3, 5) for run in range(10)] == runs


def test_runs_of_all_buckets_come_in_an_order_that_is_shuffled_anew():
    buckets = LengthBuckets(_length, LIMITS, run=8, num_records=10**6, seed=0)
    orders = [tuple(buckets.canvas(8 * (32 * window + run), 8) for run in range(32)) for window in range(4)]
    assert len({*orders}) == 4
    assert all(sorted(order) != list(order) and set(order) == {*LIMITS} for order in orders)


def test_batches_are_as_long_as_their_bucket_and_no_caption_is_cut(words):
    whole = {id_: example for id_, *example in _examples(_take(words, _config(buckets=()), 40))}
    batches = _take(words, _config(), 40)
    assert {batch["text"].shape for batch in batches} == {(8, 1, limit) for limit in LIMITS}
    for batch in batches:
        assert (np.take_along_axis(batch["text"], batch["length"][..., None] - 1, axis=-1) == EOS_ID).all()
        assert batch["text"].shape[-1] in (_needed(batch["length"].max()), LIMITS[-1])
    assert np.mean([batch["text"].shape[-1] for batch in batches]) < 19
    bucketed = {id_: example for id_, *example in _examples(batches)}
    assert all(bucketed[id_] == whole[id_] for id_ in bucketed.keys() & whole.keys())


@pytest.mark.parametrize("options", [{}, {"permute_captions": True}, {"repeat_batch": True}])
def test_any_number_of_hosts_and_threads_gives_the_same_batches(words, options):
    whole = _take(words, _config(**options), 12, position=3)
    for hosts in (2, 4):
        parts = [
            _take(
                words,
                _config(threads=hosts - 2, **options),
                12,
                position=3,
                rows=rows,
            )
            for rows in np.arange(8).reshape(hosts, -1).tolist()
        ]
        for step, batch in enumerate(whole):
            for key, value in batch.items():
                np.testing.assert_array_equal(value, np.concatenate([part[step][key] for part in parts]), err_msg=key)


def test_starting_anywhere_and_with_another_batch_size_goes_on_at_the_next_example(words):
    whole = _examples(_take(words, _config(), 80))  # two epochs
    assert whole[100:260] == _examples(_take(words, _config(), 20, position=100))
    for size in (4, 10, 16):
        batches = _take(words, _config(batch_size=size), 160 // size, position=104, bucket_run=8)
        assert _examples(batches) == whole[104:264]


def test_permuted_captions_are_put_together_by_their_own_length(words):
    source = open_source(SCENES)
    for batch in _take(words, _config(permute_captions=True), 40):
        assert batch["text"].shape[-1] in (_needed(batch["length"].max()), LIMITS[-1])
    shown = {id_: text for id_, _, text in _examples(_take(words, _config(permute_captions=True), 40))}
    own = [np.int32(words.encode(source.captions(id_)[0], 24)).tobytes() == text for id_, text in shown.items()]
    assert np.mean(own) < 0.05


def test_mixtures_keep_their_weights_in_every_window(words):
    source = open_source(f"mix:0.75*{SCENES}+0.25*subset:40:{SCENES},seed=1")
    ids = [id_ for id_, *_ in _examples(_take(words, _config(), 64, source))]
    plan = plan_of(source, seed=5)
    for window in range(2):
        part = slice(256 * window, 256 * (window + 1))
        assert sorted(ids[part]) == sorted(plan.locate(position)[1] for position in range(part.start, part.stop))


def test_damaged_records_are_masked_rows_of_a_batch_like_any_other(words):
    scenes = open_source(SCENES)

    class Damaged(type(scenes)):
        def captions(self, index):
            if index % 10 == 0:
                raise BadRecord("damaged entry")
            return super().captions(index)

        def __getitem__(self, index):
            self.captions(index)
            if index % 10 == 1:
                raise BadRecord("damaged JPEG")
            return super().__getitem__(index)

    batches = _take(words, _config(), 32, Damaged(SCENES, scenes.settings))
    ids, masks = (np.concatenate([batch[key] for batch in batches]) for key in ("id", "_mask"))
    np.testing.assert_array_equal(masks, ids % 10 > 1)


def _records(directory, model, texts, columns=("caption",)):
    def examples():
        for text in texts:
            yield Example(b"image", (text,), {}, {}, {"caption": (text,), "long": (f"{text} {text}",)})

    plans = [records.ShardPlan(f"train-{n}.arrayrecord", "train", "1", len(texts), examples) for n in range(2)]
    manifest = Manifest("test", "CC0", "nobody", {}, {})
    records.write_all(directory, manifest, plans, lengths=Lengths(str(model), columns))
    return f"array_record:{directory}:train"


def test_prepared_records_know_their_lengths_in_tokens_of_the_same_model_only(words, tmp_path):
    texts = [open_source(SCENES).captions(index)[0] for index in range(20)]
    model = tmp_path / "model"
    model.write_bytes(words.model_bytes)
    spec = _records(tmp_path / "tokens", model, texts, ("caption", "long"))
    expected = [len(words.encode(text, 1_000)) for text in texts]
    assert [open_source(spec).length(index, words) for index in range(40)] == 2 * expected
    subset = open_source(f"subset:30:{spec}")
    assert [subset.length(index, words) for index in range(30)] == [
        (2 * expected)[subset.locate(index)[1]] for index in range(30)
    ]
    both = open_source(f"columns:caption=0.5,long=0.5:{spec}")
    assert [both.length(index, words) for index in range(20)] == [
        len(words.encode(f"{text} {text}", 1_000)) for text in texts
    ]

    other = tokenizer.train(texts * 50, sections.Tokenizer(vocab_size=80, byte_fallback=False))
    in_words = _records(tmp_path / "words", "", texts)
    for source, model in ((spec, other), (in_words, words)):
        with pytest.raises(ConfigError, match=rf"tokenizer {model.hash}.*--tokenizer=MODEL"):
            _take(model, _config(), 1, open_source(source))
    (tmp_path / "tokens" / "train-1.lengths.npy").write_bytes(b"cut")
    with pytest.raises(ConfigError, match=r"train-1\.lengths\.npy is not there, or not what was written"):
        _take(words, _config(), 1, open_source(spec))


def test_a_folder_knows_its_lengths_and_a_source_that_does_not_is_refused(words, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    (tmp_path / "a.txt").write_text("a red circle\na red circle is above a blue star")
    assert open_source(f"folder:{tmp_path}").length(0, words) == len(
        words.encode("a red circle is above a blue star", 99)
    )
    with pytest.raises(ConfigError, match=r"data\.buckets: fake:train,size=16.* cannot say how long"):
        _take(words, _config(), 1, open_source("fake:train,size=16"))


@pytest.mark.parametrize("buckets", [(13, 9, 24), (9, 9, 24), (1, 24), (9, 13)])
def test_buckets_that_cannot_work_are_refused(buckets):
    raw = dataclasses.asdict(_config(train="scenes:train", buckets=buckets))
    with pytest.raises(ConfigError, match=r"data\.buckets="):
        parse(raw)
