import pytest

from mdc_jax.data.sources.base import Claim, Verdict
from mdc_jax.data.sources.verdicts import summarize


def _claim(kind: str, right: bool) -> Claim:
    return Claim(kind, 0, 1, right)


def test_summary_of_three_captions():
    verdicts = [
        Verdict(True, (_claim("shape", True), _claim("pair", True), _claim("shape", True)), False, 0),
        Verdict(True, (_claim("shape", True),), True, 0),
        Verdict(False, (_claim("shape", False), _claim("size", False)), False, 2),
    ]
    possible = [{"shape": 1, "pair": 2}, {"shape": 2}, {"shape": 1, "count": 1}]
    summary = summarize(verdicts, possible)
    assert summary == pytest.approx(
        {
            "grammatical": 2 / 3,
            "right": 2 / 3,
            "right_without_repeats": 1 / 3,
            "hallucinated": 2 / 3,
            "precision/pair": 1.0,
            "precision/shape": 3 / 4,
            "precision/size": 0.0,
            "recall": 3 / 7,
            "recall/count": 0.0,
            "recall/pair": 1 / 2,
            "recall/shape": 2 / 4,
        }
    )


def test_an_ungrammatical_caption_is_not_right():
    summary = summarize([Verdict(False, (_claim("shape", True),), False, 0)], [{"shape": 1}])
    assert summary["right"] == 0 and summary["precision/shape"] == 1


@pytest.mark.parametrize("possible", [[], [{}, {}]])
def test_one_count_per_verdict(possible):
    with pytest.raises(ValueError, match="one of each"):
        summarize([Verdict(True, (), False, 0)], possible)
