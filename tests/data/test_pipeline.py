"""Batches: the same rows for any number of hosts and any start, damage masked and counted."""

import collections
import dataclasses
import fractions
import io
import itertools
import threading
import time

import numpy as np
import PIL.Image
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mdc_jax.config import sections
from mdc_jax.data import images, pipeline, retries, tokenizer
from mdc_jax.data.batch import EOS_ID
from mdc_jax.data.captions import read_captions
from mdc_jax.data.plan import Part, Plan, plan_of
from mdc_jax.data.sources import open_source
from mdc_jax.data.sources.base import BadRecord, Family, Record
from tests.data.in_flight import InFlight

SIZE = 8
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def _caption(index, number=0):
    return " ".join(WORDS[int(digit)] for digit in f"{index}{number}")


def _jpeg(index):
    pixels = np.random.default_rng(index).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


class Fixed:
    """A source made of a list of records; one that is an exception is raised."""

    spec = "fixed"
    fingerprint = ""

    def __init__(self, records, families=None):
        self.records = records
        self.families = families or {}
        self.reads = collections.Counter()

    def __len__(self):
        return len(self.records)

    def __getitem__(self, index):
        self.reads[index] += 1
        record = self.records[index]
        if callable(record):
            record = record(self.reads[index])
        if isinstance(record, Exception):
            raise record
        return record


def _good(count, captions=1):
    return [Record(_jpeg(index), tuple(_caption(index, n) for n in range(captions))) for index in range(count)]


@pytest.fixture(scope="module")
def words():
    captions = [_caption(index) for index in range(200)]
    return tokenizer.train(captions, sections.Tokenizer(vocab_size=400))


def _config(random_crop=1.0, seed=5, **data):
    data = {"batch_size": 4, "max_tokens": 24, "threads": 2, "prefetch": 2, "max_bad_share": 1.0} | data
    image = sections.Image(size=SIZE, random_crop=random_crop)
    return sections.Config(seed=seed, image=image, data=sections.Data(**data))


def _take(source, words, config, count, position=0, **options):
    with pipeline.TrainBatches(source, words, config, position=position, **options) as batches:
        return list(itertools.islice(batches, count))


def _joined(batches):
    return {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}


def _assert_equal(first, second):
    assert first.keys() == second.keys()
    for key in first:
        np.testing.assert_array_equal(first[key], second[key], err_msg=key)


def test_batches_follow_the_contract(words):
    source = Fixed(_good(10))
    config = _config()
    batches = _take(source, words, config, 5)
    plan = Plan(10, config.seed)
    for number, batch in enumerate(batches):
        assert batch["image"].shape == (4, SIZE, SIZE, 3)
        assert batch["image"].dtype == np.uint8
        assert batch["text"].shape == (4, 1, 24)
        assert batch["text"].dtype == batch["length"].dtype == batch["id"].dtype == np.int32
        assert batch["_mask"].dtype == bool
        assert batch["_mask"].all()
        for row in range(4):
            record = plan.locate(number * 4 + row)[1]
            assert batch["id"][row] == record
            np.testing.assert_array_equal(batch["image"][row], images.prepare(_jpeg(record), config.image))
            length = batch["length"][row, 0]
            assert batch["text"][row, 0, length - 1] == EOS_ID
            assert not batch["text"][row, 0, length:].any()
            assert words.decode(batch["text"][row, 0]) == _caption(record)


@pytest.mark.parametrize("options", [{}, {"permute_captions": True}, {"captions_per_image": 2}, {"repeat_batch": True}])
def test_any_number_of_hosts_and_threads_gives_the_same_rows(words, options):
    source = Fixed(_good(10, captions=3))
    whole = _joined(_take(source, words, _config(random_crop=0.5, **options), 6, position=3))
    for hosts in (2, 4):
        config = _config(random_crop=0.5, threads=hosts - 2, **options)
        parts = [_take(source, words, config, 6, position=3, rows=range(host, 4, hosts)) for host in range(hosts)]
        for host, part in enumerate(parts):
            _assert_equal({key: value[host::hosts] for key, value in whole.items()}, _joined(part))


@pytest.mark.parametrize("options", [{}, {"permute_captions": True}])
def test_records_that_are_slow_to_come_are_read_at_once_and_give_the_same_batches(words, options):
    records = [*_good(9), BadRecord("damaged entry")]
    expected = _joined(_take(Fixed(records), words, _config(readers=1, random_crop=0.5, **options), 6))

    def late(record):
        def read(_):
            time.sleep(0.02)
            return record

        return read

    with pipeline.TrainBatches(
        Fixed([late(record) for record in records]), words, _config(random_crop=0.5, **options), position=0
    ) as batches:
        _assert_equal(expected, _joined(list(itertools.islice(batches, 6))))
        assert batches.readers > 2


def test_starting_anywhere_equals_going_on(words):
    source = Fixed(_good(10, captions=3))
    config = _config(random_crop=0.5)
    whole = _joined(_take(source, words, config, 12))
    for position in (4, 7, 13):
        _assert_equal(
            {key: value[position : position + 16] for key, value in whole.items()},
            _joined(_take(source, words, config, 4, position=position)),
        )
    far = _take(source, words, config, 1, position=10**12)[0]
    plan = Plan(10, config.seed)
    assert list(far["id"]) == [plan.locate(10**12 + row)[1] for row in range(4)]


def test_another_batch_size_goes_on_at_the_next_example(words):
    source = Fixed(_good(10))
    whole = _joined(_take(source, words, _config(), 6))
    _assert_equal(
        {key: value[8:20] for key, value in whole.items()},
        _joined(_take(source, words, _config(batch_size=6), 2, position=8)),
    )


def test_augmentation_depends_on_seed_epoch_and_record(words):
    source = Fixed(_good(4))

    def crops(**options):
        batch = _joined(_take(source, words, _config(random_crop=0.3, **options), 2))
        order = np.argsort(batch["id"], kind="stable")
        return batch["image"][order].reshape(4, 2, -1)  # of every record, in both epochs

    first = crops()
    assert all((first[record, 0] != first[record, 1]).any() for record in range(4))
    np.testing.assert_array_equal(first, crops())
    assert (first != crops(seed=6)).any()


def test_captions_are_chosen_afresh_and_missing_ones_have_length_0(words):
    source = Fixed([Record(_jpeg(0), (_caption(0), " ", "")), *_good(4, captions=4)[1:]])
    batch = _joined(_take(source, words, _config(captions_per_image=2), 30))
    chosen = collections.defaultdict(set)
    for row, record in enumerate(batch["id"]):
        texts = [words.decode(text) for text in batch["text"][row]]
        if record == 0:
            assert texts == [_caption(0), ""]
            assert batch["length"][row, 1] == 0
        else:
            assert texts[0] != texts[1]
            chosen[record].update(texts)
    assert all(captions == {_caption(record, n) for n in range(4)} for record, captions in chosen.items())


def test_permuted_captions_are_those_of_other_images(words):
    count = 40
    source = Fixed(_good(count))
    config = _config(batch_size=count, permute_captions=True)
    plan = Plan(count, config.seed)
    for epoch, batch in enumerate(_take(source, words, config, 2)):
        captions = [words.decode(text) for text in batch["text"][:, 0]]
        assert captions == [_caption(plan.permuted_caption(epoch * count + row)) for row in range(count)]
        assert sorted(captions) == sorted(map(_caption, range(count)))
        assert list(batch["id"]) == [plan.locate(epoch * count + row)[1] for row in range(count)]


def test_one_batch_for_ever(words):
    batches = _take(Fixed(_good(10)), words, _config(repeat_batch=True), 3, position=8)
    _assert_equal(batches[0], batches[2])


def test_only_the_keys_asked_for(words):
    batch = _take(Fixed(_good(4)), words, _config(), 1, keys=("image",))[0]
    assert batch.keys() == {"image", "_mask"}


@pytest.fixture
def used_memory(monkeypatch):
    """New arrays hold what was there before, as after some batches."""
    monkeypatch.setattr(np, "empty", lambda shape, dtype=float, **_: np.full(shape, 77, dtype))


def test_bad_examples_are_masked_rows_of_zeros_and_counted(words, used_memory):
    records = _good(8)
    records[2] = Record(b"no image", (_caption(2),))
    records[4] = Record(_jpeg(4), ("", "\n"))
    records[5] = BadRecord("damaged entry")
    records[7] = Record(_jpeg(7), ("a cat " * 2_000,))
    reasons = {2: "unknown format", 4: "no caption", 5: "damaged entry", 7: "huge caption"}
    with pipeline.TrainBatches(Fixed(records), words, _config(), position=0) as batches:
        taken = _joined(list(itertools.islice(batches, 4)))
        assert batches.bad == {reason: 2 for reason in reasons.values()}
    for row, record in enumerate(taken["id"]):
        assert taken["_mask"][row] == (record not in reasons)
        if record in reasons:
            assert not taken["image"][row].any()
            assert not taken["text"][row].any()
            assert not taken["length"][row].any()
    healthy = _joined(_take(Fixed(_good(8)), words, _config(), 4))
    np.testing.assert_array_equal(taken["id"], healthy["id"])
    np.testing.assert_array_equal(taken["image"][taken["_mask"]], healthy["image"][taken["_mask"]])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_never_shifts_a_position(words, data):
    records, count = _good(8), 8
    for index in data.draw(st.sets(st.integers(0, count - 1), max_size=4)):
        image = bytearray(records[index].image)
        start = data.draw(st.integers(0, len(image)))
        image[start : start + data.draw(st.integers(0, 400))] = data.draw(st.binary(max_size=20))
        caption = data.draw(st.text(max_size=30))
        records[index] = Record(bytes(image), (caption,))
    config = _config(max_bad_share=1.0, random_crop=0.5)
    source = Fixed(records)
    first, again = (_joined(_take(source, words, config, 3, position=5)) for _ in range(2))
    _assert_equal(first, again)
    plan = Plan(count, config.seed)
    assert list(first["id"]) == [plan.locate(5 + row)[1] for row in range(12)]


def test_too_many_bad_records_stop_the_run(words):
    records = [BadRecord("damaged entry") if index % 33 == 0 else good for index, good in enumerate(_good(11) * 120)]
    config = _config(batch_size=100, max_bad_share=0.02)
    with pipeline.TrainBatches(Fixed(records), words, config, position=0) as batches:
        for _ in range(9):
            next(batches)
        with pytest.raises(pipeline.TooManyBadRecords, match=r"28 of 1000 .*28 x damaged entry.*max_bad_share = 0.02"):
            next(batches)
    with pipeline.TrainBatches(
        Fixed(records), words, _config(batch_size=100, max_bad_share=0.04), position=0
    ) as batches:
        for _ in range(12):
            next(batches)


@pytest.mark.parametrize("hosts", [1, 2])
def test_small_sources_are_judged_after_their_first_epoch(words, hosts):
    records = [*_good(10), BadRecord("damaged entry"), BadRecord("damaged entry")]
    host = {"position": 0, "rows": range(4 // hosts)}
    with pipeline.TrainBatches(Fixed(records), words, _config(max_bad_share=0.05), **host) as batches:
        next(batches)
        next(batches)
        with pytest.raises(pipeline.TooManyBadRecords, match=f"of {12 // hosts} examples"):
            next(batches)


def test_evaluation_is_judged_at_its_end(words):
    source = Fixed([*_good(10), BadRecord("damaged entry")])
    batches = pipeline.eval_batches(source, words, _config(max_bad_share=0.05), count=100, batch_size=4)
    for _ in range(3):
        next(batches)
    with pytest.raises(pipeline.TooManyBadRecords, match="1 of 11 examples cannot be used"):
        next(batches)
    fine = pipeline.eval_batches(source, words, _config(max_bad_share=0.1), count=100, batch_size=4)
    assert len(list(fine)) == 3


def test_read_errors_are_retried_then_stop_the_run(words, monkeypatch):
    monkeypatch.setattr(retries, "_AFTER", (0.0, 0.0))
    good = _good(4)
    flaky = [lambda reads, record=record: record if reads % 3 == 0 else OSError("timed out") for record in good]
    with pipeline.TrainBatches(Fixed(flaky), words, _config(threads=0), position=0) as batches:
        _assert_equal(next(batches), _take(Fixed(good), words, _config(), 1)[0])
        assert not batches.bad
    with (
        pipeline.TrainBatches(
            Fixed([*good[:3], OSError("disk on fire")]), words, _config(threads=0), position=0
        ) as batches,
        pytest.raises(retries.ReadError, match="fixed: record 3 could not be read in 3 attempts: disk on fire"),
    ):
        next(batches)


def test_warnings_name_the_record_and_are_bounded(words, caplog):
    records = [BadRecord("damaged entry")] * 4
    with caplog.at_level("WARNING"):
        _take(Fixed(records), words, _config(), 20)
    named = [message for message in caplog.messages if "is masked" in message]
    assert len(named) == 20
    assert "fixed: record" in named[0]


FAMILIES = {"parity": Family("class", ("even", "odd")), "digits": Family("presence", tuple(WORDS))}


def _labelled(count, captions=1):
    return Fixed(
        [
            dataclasses.replace(
                record,
                captions=record.captions[:captions],
                labels={
                    "parity": np.int32(index % 2),
                    "digits": np.asarray([str(digit) in str(index) for digit in range(10)], np.uint8),
                },
            )
            for index, record in enumerate(_good(count))
        ],
        FAMILIES,
    )


@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_evaluation_reads_in_order_and_pads_the_end(words, hosts, used_memory):
    source = _labelled(12)
    config = _config(random_crop=0.3)
    options = {"count": 9, "batch_size": 8, "labels": tuple(FAMILIES)}
    rows = np.arange(8).reshape(hosts, -1).tolist()
    parts = [list(pipeline.eval_batches(source, words, config, rows=some, **options)) for some in rows]
    assert [len(part) for part in parts] == [2] * hosts
    batch = _joined([parts[host][step] for step in range(2) for host in range(hosts)])
    assert list(batch["id"]) == [*range(9), *[-1] * 7]
    assert list(batch["_mask"]) == [True] * 9 + [False] * 7
    assert list(batch["label/parity"]) == [*(index % 2 for index in range(9)), *[-1] * 7]
    assert batch["label/digits"].shape == (16, 10)
    np.testing.assert_array_equal(batch["label/digits"][:9], np.eye(10)[:9])
    for row in range(9):
        np.testing.assert_array_equal(batch["image"][row], images.prepare(_jpeg(row), config.image))
        assert words.decode(batch["text"][row, 0]) == _caption(row)
    assert not batch["image"][9:].any()


def test_evaluation_without_captions(words):
    options = {"count": 99, "batch_size": 4}
    labelled = _joined(list(pipeline.eval_batches(_labelled(6, 0), words, _config(), labels=("parity",), **options)))
    assert labelled["_mask"].sum() == 6
    assert not labelled["length"].any()
    plain = _joined(list(pipeline.eval_batches(_labelled(6, 0), words, _config(), **options)))
    assert not plain["_mask"].any()


def test_training_gives_the_labels_that_are_asked_for_also_of_images_without_captions(words):
    (batch,) = _take(_labelled(6, 0), words, _config(batch_size=6), 1, keys=("image", "label/parity"))
    assert batch.keys() == {"image", "label/parity", "_mask"}
    assert batch["_mask"].all() and sorted(batch["label/parity"]) == [0, 0, 0, 1, 1, 1]


def test_an_unknown_family_is_refused(words):
    with pytest.raises(ValueError, match=r"no labels \['colour'\]; it has \['digits', 'parity'\]"):
        pipeline.eval_batches(_labelled(4), words, _config(), count=4, batch_size=4, labels=("colour", "parity"))


def test_captions_for_the_tokenizer_are_spread_over_the_source():
    records = _good(10)
    records[5] = BadRecord("damaged entry")
    assert list(read_captions(Fixed(records), 4)) == [_caption(index) for index in (0, 2, 7)]
    assert len(list(read_captions(Fixed(records), 100))) == 9


def test_fake_data(words):
    source = open_source("fake:validation,size=16,words=5")
    assert len(source) == 1000
    first = source[3]
    assert first.image.shape == (16, 16, 3)
    assert len(first.captions[0].split()) == 5
    np.testing.assert_array_equal(source[3].image, first.image)
    assert first.captions[0].split()[0] == source.families["tint"].names[first.labels["tint"]]
    assert first.captions != open_source("fake:test,size=16,words=5")[3].captions
    tints = {int(source[index].labels["tint"]): tuple(source[index].image.min((0, 1)) // 64) for index in range(50)}
    assert len(set(tints.values())) == len(tints) == 8


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("fake:other", "no split"),
        ("fake:train,siz=3", 'did you mean "size"'),
        ("fake:train,size=0", "at least 1"),
        ("fakes:train", 'did you mean "fake"'),
        ("train", 'unknown source "train"'),
    ],
)
def test_wrong_specs_are_explained(spec, message):
    with pytest.raises(ValueError, match=message):
        open_source(spec)


class Far(Fixed):
    """A source that takes its time, as one in a bucket does; knows how many records were read at the same time."""

    def __init__(self, records):
        super().__init__(records)
        self.in_flight = InFlight()

    def __getitem__(self, index):
        with self.in_flight:
            time.sleep(0.02)
        return super().__getitem__(index)


def test_captions_are_read_ahead_in_the_same_order():
    def record(index):
        weights = (0.2, 0.7, 0.1) if index % 3 else ()
        return Record(b"", (_caption(index), " ", _caption(index, 1)), weights=weights)

    records = [BadRecord("damaged entry") if index % 10 == 7 else record(index) for index in range(230)]
    source = Far(records)
    source.parts = Part(fractions.Fraction(2), 150), Part(fractions.Fraction(1), 80)
    expected = []
    for index in plan_of(source, seed=0, shuffle=False).spread(200):  # one after the other
        if isinstance(records[index], Record):
            captions, weights = records[index].captions, records[index].weights
            if weights:
                captions = [captions[np.random.default_rng((index, 1)).choice(3, 1, replace=False, p=weights)[0]]]
            expected += [caption for caption in captions if caption.strip()]
    assert list(read_captions(source, 200)) == expected
    assert source.in_flight.most > 20


def test_captions_that_nobody_asks_for_any_more_keep_no_thread_waiting(monkeypatch):
    monkeypatch.setattr(retries, "_AFTER", (600.0,))
    source = Far(_good(45) + [OSError("gone")] * 155)  # captions are given by 32
    before = set(threading.enumerate())
    captions = read_captions(source, 200)
    assert list(itertools.islice(captions, 12)) == [_caption(index) for index in range(12)]
    captions.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=60)
        assert not thread.is_alive()
