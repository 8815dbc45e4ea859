import csv

import numpy as np
from etils import epath

from mdc_jax.benchmarks import decoding_quality
from mdc_jax.config import sections
from tests.evaluators.conftest import use_source  # noqa: F401
from tests.evaluators.fakes import FakeObjective, FakeSource, make_subject


def test_steps_double_up_to_one_token_each():
    assert decoding_quality.steps(17) == [1, 2, 4, 8, 16, 17]
    assert decoding_quality.steps(8) == [1, 2, 4, 8]
    assert decoding_quality.steps(1) == [1]


def test_wrong_claims_are_written_for_every_order_and_number_of_steps(tmp_path, use_source):  # noqa: F811
    source = FakeSource(40, checks=True)
    use_source(source)
    subject = make_subject(tmp_path, FakeObjective(blind=True))
    section = sections.Captioning(examples=40, batch_size=16)
    found = {
        order: {count: decoding_quality.measure(subject, section, order, count) for count in (1, 3)}
        for order in ("confidence", "random")
    }
    decoding_quality.write(subject.out, found)
    rows = list(csv.DictReader((tmp_path / "quality.csv").read_text().splitlines()))
    wrong = [float(row["value"]) for row in rows if row["metric"] == "wrong/animal"]
    assert len(wrong) == 4
    right = [float(row["value"]) for row in rows if row["metric"] == "right"]
    np.testing.assert_allclose(np.add(wrong, right), 1, atol=1e-4)  # captions have one claim
    assert all((tmp_path / f"{name}.svg").read_text().count("confidence") for name in ("right", "distinct", "wrong"))
    assert "animal" in (tmp_path / "wrong.svg").read_text()


def test_what_was_written_can_be_drawn_again(tmp_path):
    found = {"random": {1: {"right": 0.25, "wrong/shape": 0.5}, 2: {"right": 0.5, "wrong/shape": 0.25}}}
    first, again = epath.Path(tmp_path) / "first", epath.Path(tmp_path) / "again"
    for folder in (first, again):
        folder.mkdir()
    decoding_quality.write(first, found)
    read = decoding_quality.read(first / "quality.csv")
    assert read == found
    decoding_quality.draw(again, read)
    for name in ("right.svg", "wrong.svg"):
        assert (again / name).read_bytes() == (first / name).read_bytes()
