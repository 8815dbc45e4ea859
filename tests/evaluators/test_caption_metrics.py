"""Our corpus-level numbers are those of COCO's own evaluation."""

import json
import os
import subprocess
import sys

import pytest

from mdc_jax.evaluators import caption_metrics

REFERENCES = [
    ["A red circle, at the top.", "there is a circle"],
    ["two dogs run on grass", "Dogs are running", "dogs; grass"],
    ["a man's hat"],
    ["an empty room"],
]
GENERATED = ["a red circle at the left", "two dogs sleep on grass", "a hat of a man", ""]


@pytest.mark.slow
def test_the_numbers_are_those_of_coco_and_a_line_break_in_a_caption_shifts_nothing(tmp_path, monkeypatch):
    if reason := caption_metrics.missing():
        pytest.skip(f"not run: {reason}")
    from pycocoevalcap import eval as theirs
    from pycocotools.coco import COCO

    class NoSpice:
        def method(self):
            return "none"

        def compute_score(self, gts, res):
            return 0.0, [0.0] * len(gts)

    monkeypatch.setattr(theirs, "Spice", NoSpice)
    annotations = [(i, text) for i, texts in enumerate(REFERENCES) for text in texts]
    truth = {
        "images": [{"id": i} for i in range(len(REFERENCES))],
        "annotations": [{"id": n, "image_id": i, "caption": text} for n, (i, text) in enumerate(annotations)],
        "info": {}, "licenses": [], "type": "captions",
    }  # fmt: skip
    results = [{"image_id": i, "caption": text or "."} for i, text in enumerate(GENERATED)]
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(json.dumps(results))
    coco = COCO(str(tmp_path / "truth.json"))
    evaluation = theirs.COCOEvalCap(coco, coco.loadRes(str(tmp_path / "results.json")))
    evaluation.evaluate()
    names = ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "METEOR", "ROUGE_L", "CIDEr")
    expected = dict(zip(caption_metrics.METRICS, (evaluation.eval[name] for name in names), strict=True))
    broken = [text.replace(" ", "\u2028\n", 1) for text in GENERATED]
    assert caption_metrics.compute(broken, REFERENCES) == expected


def test_an_image_without_references_is_refused():
    with pytest.raises(ValueError, match="none of them empty"):
        caption_metrics.compute(["a cat"], [[]])


def test_java_that_fails_is_an_error_and_no_wait_for_ever(tmp_path):
    if reason := caption_metrics.missing():
        pytest.skip(f"not run: {reason}")
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho no memory >&2\nexit 1\n")
    java.chmod(0o755)
    program = """
from mdc_jax.evaluators import caption_metrics
try:
    caption_metrics.compute(["a cat"], [["a dog"]])
except (OSError, ValueError):  # which of them depends on how far the program got
    print("reported")
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        timeout=120,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "reported\n"), done.stderr


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setattr(caption_metrics.shutil, "which", lambda _: None)
    assert "java" in caption_metrics.missing() or "pycocoevalcap" in caption_metrics.missing()
    monkeypatch.setattr(caption_metrics.importlib.util, "find_spec", lambda _: None)
    assert "pip install -r requirements-captions.txt" in caption_metrics.missing()
