"""Subsets, mixtures and choices of columns: which record of which source stands where, and what is refused."""

import collections
import dataclasses
import itertools

import numpy as np
import pytest

from mdc_jax.config import ConfigError, sections
from mdc_jax.data import pipeline, tokenizer
from mdc_jax.data.assembler import Assembler, Row
from mdc_jax.data.captions import read_captions
from mdc_jax.data.plan import plan_of
from mdc_jax.data.prepare import records
from mdc_jax.data.prepare.example import Example
from mdc_jax.data.prepare.manifest import Manifest
from mdc_jax.data.sources import open_source
from mdc_jax.data.sources.base import Family

FAKE = "fake:train,size=8,words=4"
PAIR = f"mix:0.75*{FAKE},count=30+0.25*subset:10:{FAKE},count=40"


def _same(first, second):
    np.testing.assert_array_equal(first.image, second.image)
    return first.captions == second.captions


@pytest.fixture(scope="module")
def words():
    captions = (caption for index in range(200) for caption in open_source(FAKE)[index].captions)
    return tokenizer.train(captions, sections.Tokenizer(vocab_size=300))


def _write(directory, columns, count=40):
    """Records whose captions are "captions N", and whose columns are as `columns(index)` says."""

    def examples():
        for index in range(count):
            yield Example(b"image", (f"own {index}",), {}, {}, columns(index))

    manifest = Manifest("test", "CC0", "nobody", {}, {})
    records.write_all(directory, manifest, [records.ShardPlan("t-0.arrayrecord", "train", "1", count, examples)])
    return f"array_record:{directory}:train"


def _config(**data):
    data = {"batch_size": 4, "max_tokens": 16} | data
    return sections.Config(seed=5, image=sections.Image(size=8), data=sections.Data(**data))


def _rows(spec, words, config, count, position=0, rows=None):
    with pipeline.TrainBatches(open_source(spec), words, config, position=position, rows=rows) as batches:
        return list(itertools.islice(batches, count))


def _joined(batches):
    return {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}


def test_smaller_subsets_are_contained_in_larger_ones():
    whole = open_source(f"{FAKE},count=1000")
    located = {}
    for count in (1, 50, 700, 1000):
        subset = open_source(f"subset:{count}:{FAKE},count=1000")
        assert len(subset) == count
        located[count] = [subset.locate(index)[1] for index in range(count)]
        assert _same(subset[count - 1], whole[located[count][-1]])
    assert located[1000][:700] == located[700]
    assert located[700][:50] == located[50]
    assert sorted(located[1000]) == list(range(1000))
    with pytest.raises(IndexError):
        subset[1000]


def test_a_subset_is_counted_in_thousands_and_millions():
    assert len(open_source(f"subset:2k:{FAKE}")) == 2_000
    assert len(open_source("subset:1M:scenes:train,size=16,count=2000000")) == 1_000_000


def test_a_subset_of_scenes_still_judges_captions():
    scenes, subset = open_source("scenes:test,size=16"), open_source("subset:5:scenes:test,size=16")
    for index in range(5):
        own = subset.locate(index)[1]
        (caption,) = subset.captions(index)
        assert (caption,) == scenes.captions(own)
        assert subset.check(index, caption) == scenes.check(own, caption)
        assert subset.claims(index) == scenes.claims(own)
    assert subset.families == scenes.families
    assert not hasattr(open_source(f"subset:5:{FAKE}"), "check")


def test_a_mixture_holds_all_records_of_its_parts():
    mixture = open_source(PAIR)
    first, second = open_source(f"{FAKE},count=30"), open_source(f"subset:10:{FAKE},count=40")
    assert len(mixture) == 40
    assert all(_same(mixture[index], first[index]) for index in range(30))
    assert all(_same(mixture[30 + index], second[index]) for index in range(10))
    assert mixture.families == first.families


def test_a_mixture_has_the_families_that_all_parts_have():
    assert open_source(f"mix:1*{FAKE}+1*scenes:train,size=16").families == {}
    both = open_source("mix:1*scenes:train,size=16+1*scenes:test,size=16")
    assert both.families.keys() == open_source("scenes:train").families.keys()
    assert both.check(0, both.captions(0)[0]).right
    one, other = open_source(FAKE), open_source(FAKE)
    other.families = {"tint": Family("class", ("other",))}
    assert type(both)([one, other], [1, 1]).families == {}


def test_fingerprints_say_what_is_read():
    specs = [
        FAKE,
        f"subset:10:{FAKE}",
        f"subset:11:{FAKE}",
        f"subset:10:{FAKE},count=99",
        f"mix:1*{FAKE}+1*{FAKE},count=9",
        f"mix:1*{FAKE}+2*{FAKE},count=9",
        f"mix:1*{FAKE}+1*{FAKE},count=8",
        f"columns:caption=1:{FAKE}",
    ]
    assert len({open_source(spec).fingerprint for spec in specs}) == len(specs)
    halves = {open_source(f"mix:{w}*{FAKE}+{w}*{FAKE},count=9").fingerprint for w in ("1", "0.5", ".5")}
    assert len(halves) == 1


@pytest.mark.parametrize("spec", [f"{FAKE},count=10", f"subset:10:{FAKE}", PAIR, f"columns:caption=1:{FAKE},count=10"])
def test_hosts_and_batch_sizes_do_not_change_what_stands_where(spec, words):
    whole = _joined(_rows(spec, words, _config(), 12))
    for hosts in (2, 4):
        parts = [_rows(spec, words, _config(), 12, rows=rows) for rows in np.arange(4).reshape(hosts, -1).tolist()]
        split = _joined([parts[host][step] for step in range(12) for host in range(hosts)])
        for key in whole:
            np.testing.assert_array_equal(whole[key], split[key], err_msg=key)
    resumed = _joined(_rows(spec, words, _config(batch_size=10), 3, position=17))
    for key in whole:
        np.testing.assert_array_equal(whole[key][17:47], resumed[key], err_msg=key)
    assert list(whole["id"]) == [plan_of(open_source(spec), 5).locate(position)[1] for position in range(48)]
    assert whole["_mask"].all()


def test_training_and_evaluation_read_a_mixture_at_its_weights(words):
    trained = _joined(_rows(PAIR, words, _config(), 100))
    assert (trained["id"] < 30).sum() == 300
    batches = pipeline.eval_batches(open_source(PAIR), words, _config(), count=16, batch_size=8, labels=("tint",))
    ids = _joined(list(batches))["id"]
    assert sorted(ids) == [*range(12), *range(30, 34)]
    captions = collections.Counter(read_captions(open_source(PAIR), 20))
    assert captions == collections.Counter(
        open_source(PAIR)[index].captions[0] for index in (*range(0, 30, 2), *range(30, 40, 2))
    )


def test_columns_are_drawn_at_their_probabilities(tmp_path, words):
    spec = _write(tmp_path, lambda index: {"re": (f"re {index} a", f"re {index} b"), "org": (f"org {index}",)})
    source = open_source(f"columns:re=0.6,org=0.3,caption=0.1:{spec}")
    record = source[7]
    assert record.captions == ("re 7 a", "re 7 b", "org 7", "own 7")
    assert record.weights == pytest.approx((0.3, 0.3, 0.3, 0.1))

    assembled = collections.Counter()
    seen = collections.defaultdict(set)
    assembler = Assembler(source, words, _config())
    for epoch, index in itertools.product(range(100), range(40)):
        (caption,) = assembler._choose(source[index], Row(index, index, epoch))
        assembled[caption.split()[0]] += 1
        seen[index].add(caption)
    assert all(len(captions) == 4 for captions in seen.values())
    for column, share in {"re": 0.6, "org": 0.3, "own": 0.1}.items():
        assert abs(assembled[column] / 4000 - share) < 4.5 * np.sqrt(share * (1 - share) / 4000)
    assert assembler._choose(record, Row(7, 7, None)) == ["re 7 a"]


def test_captions_to_train_a_tokenizer_on_have_the_shares_of_their_columns(tmp_path):
    spec = _write(tmp_path, lambda index: {"re": (f"re {index}",), "org": (f"org {index}",) if index % 2 else ()}, 800)
    read = collections.Counter(
        caption.split()[0] for caption in read_captions(open_source(f"columns:re=0.8,org=0.2:{spec}"), 800)
    )
    assert abs(read["re"] - 640) < 50
    assert abs(read["org"] - 80) < 40  # half of the records lack it
    assert read.keys() == {"re", "org"}


def test_a_column_that_few_records_have_is_not_mistyped(tmp_path):
    spec = _write(tmp_path, lambda index: {"re": (f"re {index}",), "rare": ("rare",) if index == 33 else ()})
    assert len(open_source(f"columns:re=0.8,rare=0.2:{spec}")) == 40
    with pytest.raises(ConfigError, match=r"no column rear in .*; it has caption, rare, re"):
        open_source(f"columns:re=0.8,rear=0.2:{spec}")


def test_a_record_without_the_drawn_column_is_masked(tmp_path, words):
    spec = _write(
        tmp_path, lambda index: {"re": (f"re {index}",)} | ({"org": ("o",)} if index % 2 else {"org": (" ",)})
    )
    source = open_source(f"columns:re=0.5,org=0.5:{spec}")
    assembler = Assembler(source, words, _config())
    drawn = collections.Counter(len(assembler._choose(source[0], Row(0, 0, epoch))) for epoch in range(400))
    assert abs(drawn[0] - 200) < 50
    both = Assembler(source, words, _config(captions_per_image=2))
    assert both._choose(source[0], Row(0, 0, 3)) == ["re 0"]
    assert sorted(both._choose(source[1], Row(1, 1, 3))) == ["o", "re 1"]


def test_records_keep_their_columns(tmp_path):
    source = open_source(_write(tmp_path, lambda index: {"re": (f"re {index}",)} if index else {}))
    assert source[3].columns == {"re": ("re 3",)}
    assert source[0].columns == {}
    assert dataclasses.replace(source[0], columns={}).captions == ("own 0",)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (f"subset:many:{FAKE}", "subset:N:SPEC"),
        ("subset:5", "subset:N:SPEC"),
        (f"subset:0:{FAKE}", "0 records were asked for"),
        (f"subset:200k:{FAKE}", "200000 records were asked for.*has 100000"),
        (f"subset:5:{PAIR}", "mixture of subsets"),
        ("subset:5:fakes:train", 'did you mean "fake"'),
        (f"mix:1*{FAKE}", "two parts or more"),
        (f"mix:{FAKE}+1*{FAKE}", "no weight above 0"),
        (f"mix:0*{FAKE}+1*{FAKE}", "no weight above 0"),
        (f"mix:1*{FAKE}+{FAKE}", f"'{FAKE}' has no weight above 0"),
        (f"mix:1*{FAKE}+{FAKE}+1*{FAKE}", f"'{FAKE}' has no weight above 0"),
        (f"mix:0.5*{PAIR}+0.5*{FAKE}", "mixture within a mixture"),
        (f"mix:1*{FAKE} + 1*{FAKE}", r"spaces around a \+;"),
        ("fake:train,words=0", "must be at least 1"),
        ("mix:1*fake:trian+1*fake:train", "no split 'trian'"),
        (f"columns:{FAKE}", "is no column with a probability"),
        (f"columns:a=1,a=2:{FAKE}", "column a is given twice"),
        (f"columns:a=0:{FAKE}", "'a=0' is no column"),
        (f"columns:re=0.8,caption=0.2:{FAKE}", "no column re in fake:.*it has caption"),
        (f"columns:caption=1:{PAIR}", "within the parts"),
    ],
)
def test_what_cannot_work_is_explained(spec, message):
    with pytest.raises(ConfigError, match=message):
        open_source(spec)
