import dataclasses

import numpy as np
import pytest

from mdc_jax import evaluators
from mdc_jax.config import ConfigError, sections
from mdc_jax.data.sources.base import BadRecord
from mdc_jax.evaluators.base import Interrupted, extract, objective_of
from tests.evaluators.fakes import BAD, FakeSource, make_subject


def test_extract_gives_readable_rows_in_order_whatever_the_batch_size(tmp_path, use_source):
    source = FakeSource(21)
    use_source(source)
    for batch_size in (3, 8, 100):
        rows = extract(
            make_subject(tmp_path),
            "fake:test",
            lambda batch, index: {"twice": 2 * batch["id"]},
            count=50,
            batch_size=batch_size,
            labels=("bits",),
        )
        expected = np.delete(np.arange(21), BAD)
        np.testing.assert_array_equal(rows["id"], expected)
        np.testing.assert_array_equal(rows["twice"], 2 * expected)
        np.testing.assert_array_equal(rows["label/bits"], source.bits[expected])


def test_evaluation_stops_between_batches(tmp_path, use_source):
    use_source(FakeSource(40))
    answers = iter([False, True])
    seen = []
    with pytest.raises(Interrupted):
        extract(
            make_subject(tmp_path, should_stop=lambda: next(answers)),
            "fake:test",
            lambda batch, index: seen.append(index) or {},
            count=40,
            batch_size=8,
        )
    assert seen == [0]


def test_an_empty_split_is_named(tmp_path):
    subject = make_subject(tmp_path)
    config = dataclasses.replace(subject.config, data=dataclasses.replace(subject.config.data, test=""))
    with pytest.raises(ConfigError, match="empty, but an evaluator reads it"):
        dataclasses.replace(subject, config=config).spec("test")


class AllBad(FakeSource):
    def __getitem__(self, index):
        raise BadRecord("no caption")


@pytest.mark.parametrize("type_", [sections.Captioning, sections.Perplexity, sections.HeldOutLoss])
def test_a_split_of_which_nothing_can_be_used_is_named(type_, tmp_path, use_source):
    use_source({"fake:train": FakeSource(8), "fake:test": AllBad(8), "fake:validation": AllBad(8)})
    subject = make_subject(tmp_path)
    data = dataclasses.replace(subject.config.data, max_bad_share=1.0)
    subject = dataclasses.replace(subject, config=dataclasses.replace(subject.config, data=data))
    with pytest.raises(ConfigError, match=r'"fake:(test|validation)" has no example to evaluate'):
        dict(evaluators.build(type_(split="test")).run(subject))


def test_a_split_may_be_a_source_spec_and_a_mistyped_one_is_named(tmp_path):
    subject = make_subject(tmp_path)
    assert subject.spec("fake:train") == "fake:train"
    with pytest.raises(ConfigError, match='split "tset": choose validation or test'):
        subject.spec("tset")


def test_a_model_that_cannot_be_is_a_wrong_config(tmp_path):
    config = make_subject(tmp_path).config
    encoder = dataclasses.replace(config.model.encoder, variant="XL/16")
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, encoder=encoder))
    with pytest.raises(ConfigError, match='model: encoder variant "XL/16": expected size/patch'):
        objective_of(config)
