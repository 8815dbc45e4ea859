"""What captions give away: nothing on the built-in scenes, and what was put in elsewhere."""

import time

import numpy as np
import pytest

from mdc_jax.data import leakage, retries
from mdc_jax.data.sources import scenes
from mdc_jax.data.sources.base import BadRecord, Family, Record
from tests.data.in_flight import InFlight

N = 6_000
Z = 5.0  # standard errors that chance may reach


class Captions:
    """A source of captions with labels."""

    spec, fingerprint = "captions", ""

    def __init__(self, captions, labels, families):
        self.families = families
        self._captions, self._labels = captions, labels

    def __len__(self):
        return len(self._captions)

    def __getitem__(self, index):
        if self._captions[index] is None:
            raise BadRecord("damaged entry")
        labels = {family: values[index] for family, values in self._labels.items()}
        return Record(b"", (self._captions[index],), labels)


def _means(found):
    return {(told.family, told.features): told for told in found.told if told.name == leakage.MEAN}


@pytest.fixture(scope="module")
def audited():
    return leakage.audit(scenes.open("train"), range(N))


def test_captions_of_scenes_tell_no_label_beyond_the_count(audited):
    labels = {told.family for told in audited.told}
    assert labels == set(scenes.ScenesSource.families)
    for told in audited.told:
        if (told.family, told.features) != (leakage.COUNT, "kinds"):
            assert told.auc - 0.5 < Z * told.error, told
            assert told.error < 0.06


def test_how_many_objects_there_are_is_told_by_how_many_are_named(audited):
    assert _means(audited)[leakage.COUNT, "kinds"].low > 0.7


def test_the_audit_finds_what_words_themselves_say():
    class Words(scenes.ScenesSource):
        def word_kind(self, word):
            return word

    source = scenes.open("train")
    found = _means(leakage.audit(Words(source.spec, source.settings), range(3_000)))
    assert all(found[family, "kinds"].low > 0.65 for family in ("shape", "colour", "background"))
    assert all(found[family, "length"].auc < 0.53 for family in ("shape", "colour", "background"))


def test_length_that_depends_on_the_label_is_found_and_a_count_explains_it():
    rng = np.random.default_rng(0)
    label, count = (rng.integers(0, 2, 1_000) for _ in range(2))
    families = {"kind": Family("class", ("no", "yes")), "flag": Family("presence", ("set",))}
    words = rng.integers(3, 9, 1_000)
    told = Captions(["word " * n for n in words + 3 * label], {"kind": label, "flag": count[:, None]}, families)
    found = _means(leakage.audit(told, range(1_000)))
    assert found["kind", "length"].low > 0.75
    assert abs(found["flag", "length"].auc - 0.5) < 0.1

    by_count = families | {leakage.COUNT: Family("class", ("one", "two"))}
    same = np.where(rng.random(1_000) < 0.9, count, 1 - count)  # only through the count does length tell it
    explained = Captions(
        ["word " * n for n in words + 6 * count],
        {"kind": same, "flag": label[:, None], leakage.COUNT: count},
        by_count,
    )
    found = _means(leakage.audit(explained, range(1_000)))
    assert found[leakage.COUNT, "length"].auc > 0.95
    assert abs(found["kind", "length"].auc - 0.5) < Z * found["kind", "length"].error


def test_length_buckets_tell_what_they_were_cut_by_and_nothing_else():
    rng = np.random.default_rng(3)
    words, other = rng.integers(5, 25, 1_000), rng.integers(0, 2, 1_000)
    flag = Family("class", ("no", "yes"))
    source = Captions(
        ["word " * n for n in words],
        {"long": (words > 12).astype(np.int32), "odd": words % 2, "other": other},
        {"long": flag, "odd": flag, "other": flag},
    )
    told = _means(leakage.audit(source, range(1_000), lambda captions: int(len(captions[0].split()) > 12)))
    assert told["long", "bucket"].auc > 0.99
    for family in ("odd", "other"):
        assert abs(told[family, "bucket"].auc - 0.5) < Z * told[family, "bucket"].error


def test_what_cannot_be_used_is_counted_and_rare_labels_are_left_out():
    label = np.zeros(200, np.int32)
    label[:10] = 1
    texts = [None, "  ", *["A dog, 2 cats."] * 198]
    found = leakage.audit(Captions(texts, {"kind": label}, {"kind": Family("class", ("no", "yes"))}), range(200))
    assert found.dropped == {"damaged entry": 1, "no caption": 1}
    assert not found.told


def test_records_are_read_ahead_and_again_after_a_read_error(monkeypatch):
    monkeypatch.setattr(retries, "_AFTER", (0.0,))

    class Far(Captions):
        in_flight = InFlight()
        failed = False

        def __getitem__(self, index):
            with self.in_flight:
                time.sleep(0.02)
            if index == 150 and not self.failed:
                self.failed = True
                raise OSError("no network")
            return super().__getitem__(index)

    rng = np.random.default_rng(4)
    label = rng.integers(0, 2, 300)
    family = Family("class", ("no", "yes"))
    made = ["word " * n for n in rng.integers(3, 9, 300) + label], {"kind": label}, {"kind": family}
    far = Far(*made)
    assert leakage.audit(far, range(300)) == leakage.audit(Captions(*made), range(300))
    assert far.failed
    assert far.in_flight.most > 20


def test_batches_made_by_label_tell_it_and_batches_made_at_random_do_not():
    rng = np.random.default_rng(1)
    label = rng.integers(0, 4, 2_000)
    family = Family("class", ("a", "b", "c", "d"))
    sorted_batch = np.empty(2_000, int)
    sorted_batch[np.argsort(label + 0.1 * rng.random(2_000))] = np.arange(2_000) // 50
    told = leakage.tell(leakage.one_hot(sorted_batch), label, "class", family, "batch")
    assert told[0].low > 0.9
    told = leakage.tell(leakage.one_hot(rng.permutation(2_000) // 50), label, "class", family, "batch")
    assert told[0].auc < 0.5 + Z * told[0].error


def test_intervals_hold_the_truth_as_often_as_they_say():
    """Two normal distributions one standard deviation apart: the area is Phi(1 / sqrt 2) = .760."""
    rng = np.random.default_rng(2)
    family, inside = Family("presence", ("shifted",)), 0
    for _ in range(100):
        label = rng.integers(0, 2, (300, 1))
        (told, _) = leakage.tell(rng.normal(size=(300, 1)) + label, label, "family", family, "value")
        inside += told.low < 0.760 < told.high
    assert 88 <= inside <= 99


def test_kinds_of_words_in_any_language():
    kinds = [leakage.word_kind(word) for word in leakage.words("A dog and 12 Cats, près de l'eau.")]
    assert kinds == ["a", "WORD", "and", "NUMBER", "WORD", ",", "WORD", "WORD", "WORD", "'", "WORD", "."]
