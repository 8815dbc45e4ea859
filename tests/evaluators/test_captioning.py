import dataclasses
import json
from unittest import mock

import jax
import numpy as np
import PIL.Image
import pytest

from mdc_jax.config import ConfigError, sections
from mdc_jax.evaluators import build, caption_metrics, captioning, check
from mdc_jax.report import plots
from tests.evaluators.fakes import BAD, FakeObjective, FakeSource, make_subject

SECTION = sections.Captioning(examples=40, batch_size=16, picture=5)
IDS = np.delete(np.arange(40), BAD)


def test_captions_of_an_objective_that_sees_are_right_and_shuffled_ones_are_not(tmp_path, use_source):
    source = FakeSource(40, checks=True)
    use_source(source)
    values = dict(build(SECTION).run(make_subject(tmp_path)))
    assert values["right"] == values["grammatical"] == values["precision/animal"] == 1.0
    dogs = source.bits[IDS, 0]
    agree = np.mean(dogs == np.roll(dogs, len(dogs) // 2))
    assert values["shuffled/right"] == pytest.approx(agree)
    assert values["distinct"] == pytest.approx(2 / len(IDS))


def test_a_wrong_claim_is_counted_written_and_marked(tmp_path, use_source, monkeypatch):
    source = FakeSource(40, checks=True)
    use_source(source)
    drawn = []
    monkeypatch.setattr(plots, "captions", lambda path, examples: drawn.extend(examples))
    values = dict(build(SECTION).run(make_subject(tmp_path, FakeObjective(blind=True))))
    right = source.bits[IDS, 0] == 0
    assert values["right"] == values["recall/animal"] == pytest.approx(right.mean())
    assert values["hallucinated"] == pytest.approx(1 - right.mean())

    lines = [json.loads(line) for line in (tmp_path / "captions.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == IDS.tolist()
    assert [line["right"] for line in lines] == right.tolist()
    assert lines[0]["generated"] == "a cat" and lines[0]["truth"] == [f"a {source.animal(0)}"]
    assert lines[0]["verdict"]["claims"][0]["kind"] == "animal"

    assert len(drawn) == SECTION.picture
    for example, is_right in zip(drawn, right, strict=False):
        assert example.generated == [("a", False), ("cat", not is_right)]


def test_batches_are_drawn_with_other_random_numbers(tmp_path, use_source):
    use_source(FakeSource(40))
    keys = []

    class Drawing(FakeObjective):
        def generate(self, params, features, key, *arguments, **options):
            jax.debug.callback(lambda data: keys.append(tuple(data.tolist())), jax.random.key_data(key))
            return super().generate(params, features, key, *arguments, **options)

    dict(build(SECTION).run(make_subject(tmp_path, Drawing())))
    jax.effects_barrier()
    assert len(set(keys)) == 3


def test_sources_without_a_parser_get_captions_and_picture(tmp_path, use_source):
    use_source(FakeSource(40))
    values = dict(build(SECTION).run(make_subject(tmp_path)))
    assert set(values) == {"distinct"}
    assert "verdict" not in json.loads((tmp_path / "captions.jsonl").read_text().splitlines()[0])
    assert PIL.Image.open(tmp_path / "captions.png").width > 500


@pytest.mark.slow
def test_captions_are_compared_with_references_and_those_of_other_images(tmp_path, use_source, monkeypatch):
    """Without METEOR, a Java program that takes most of the time; it is in test_caption_metrics.py."""
    if reason := caption_metrics.missing():
        pytest.skip(f"not run: {reason}")
    from pycocoevalcap.meteor import meteor

    monkeypatch.setattr(
        meteor, "Meteor", mock.Mock(return_value=mock.MagicMock(**{"compute_score.return_value": (0.5, [])}))
    )
    use_source(FakeSource(40))
    values = dict(build(dataclasses.replace(SECTION, metrics=True)).run(make_subject(tmp_path)))
    assert values["rouge_l"] == pytest.approx(1) and values["shuffled/rouge_l"] < 0.9
    assert values["cider"] > values["shuffled/cider"]
    table = (tmp_path / "metrics.md").read_text()
    assert "spice" in table and "not run: its package downloads" in table and "39 images" in table
    results = json.loads((tmp_path / "coco.json").read_text())
    assert [result["image_id"] for result in results] == IDS.tolist() and results[0]["caption"].startswith("a ")


def test_metrics_that_cannot_run_say_why(tmp_path, use_source, monkeypatch):
    use_source(FakeSource(40))
    monkeypatch.setattr(caption_metrics, "missing", lambda: "there is no java")
    values = dict(build(dataclasses.replace(SECTION, metrics=True)).run(make_subject(tmp_path)))
    assert set(values) == {"distinct"}
    assert (tmp_path / "metrics.md").read_text().count("not run: there is no java") == len(caption_metrics.METRICS)


class Published(FakeSource):
    """A source whose images have numbers of their own elsewhere."""

    def __getitem__(self, index):
        return dataclasses.replace(super().__getitem__(index), published_id=391895 + 7 * index)


def test_results_for_coco_have_the_numbers_of_its_annotations(tmp_path, use_source):
    use_source(Published(40))
    list(build(SECTION).run(make_subject(tmp_path)))
    numbers = (391895 + 7 * IDS).tolist()
    results = json.loads((tmp_path / "coco.json").read_text())
    assert [result["image_id"] for result in results] == numbers
    lines = [json.loads(line) for line in (tmp_path / "captions.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == IDS.tolist()  # the place, by which sources are read
    coco = pytest.importorskip("pycocotools.coco", reason="not run: no pycocotools")
    (tmp_path / "annotations.json").write_text(
        json.dumps({"info": {}, "images": [{"id": number} for number in numbers], "annotations": []})
    )
    found = coco.COCO(str(tmp_path / "annotations.json")).loadRes(str(tmp_path / "coco.json"))
    assert sorted(found.getImgIds()) == numbers


@pytest.mark.parametrize("published", [[None, None, None], [7, None, 9], [7, 7, 9]], ids=str)
def test_images_without_numbers_of_their_own_have_their_places(published):
    assert captioning.image_ids([0, 1, 4], published) == [0, 1, 4]


def test_an_objective_without_captions_is_refused_before_training(tmp_path):
    config = dataclasses.replace(make_subject(tmp_path).config, objective=sections.Clip())
    with pytest.raises(ConfigError, match='"clip" writes no captions: leave the evaluator mine out'):
        check(dataclasses.replace(config, evaluators={"mine": SECTION}))


def test_an_objective_without_a_decoder_is_refused(tmp_path, use_source, monkeypatch):
    use_source(FakeSource(40))
    monkeypatch.setattr(FakeObjective, "generate", lambda *_, **__: None)
    with pytest.raises(ConfigError, match="writes no captions"):
        list(build(SECTION).run(make_subject(tmp_path, FakeObjective(blind=True))))


def test_lengths_are_drawn_from_the_training_captions_where_asked(tmp_path, use_source):
    use_source(FakeSource(40))
    law = sections.Decoding(length="training")
    list(build(dataclasses.replace(SECTION, decoding=law)).run(make_subject(tmp_path)))
    lines = [json.loads(line) for line in (tmp_path / "captions.jsonl").read_text().splitlines()]
    words = [len(line["generated"].split()) for line in lines]
    assert set(words) <= {1, 2} and np.mean(words) > 1.7  # of the few lengths that none has, some are drawn


@pytest.mark.parametrize("words", [0, 1])
def test_captions_are_as_long_as_those_of_their_images_where_asked(tmp_path, use_source, monkeypatch, words):
    asked = []
    generate = FakeObjective.generate

    def spy(*args, length, **settings):
        jax.debug.callback(lambda found: asked.extend(found.tolist()), length)
        return generate(*args, length=length, **settings)

    monkeypatch.setattr(FakeObjective, "generate", spy)
    read = FakeSource.__getitem__

    def with_fewer_words(self, index):
        return dataclasses.replace(read(self, index), captions=("a dog",) if index % 2 else ("a",) * words)

    monkeypatch.setattr(FakeSource, "__getitem__", with_fewer_words)
    use_source(FakeSource(40))
    own = sections.Decoding(length="caption")
    list(build(dataclasses.replace(SECTION, decoding=own)).run(make_subject(tmp_path)))
    jax.effects_barrier()
    # EOS alone where there is no caption, no image, or a batch of 16 is padded.
    expected = [1 if index == BAD else 3 if index % 2 else 1 + words for index in range(40)] + 8 * [1]
    assert sorted(asked) == sorted(expected)  # batches may call in any order


def test_lengths_of_captions_that_no_image_has_are_refused_before_training(tmp_path, use_source, monkeypatch):
    config, own = make_subject(tmp_path).config, sections.Decoding(length="caption")
    evaluator = build(dataclasses.replace(SECTION, decoding=own, examples=BAD + 2))
    use_source(FakeSource(40))
    evaluator.check(config)
    read = FakeSource.__getitem__

    def only(*captioned):
        monkeypatch.setattr(
            FakeSource,
            "__getitem__",
            lambda self, i: dataclasses.replace(read(self, i), captions=("a dog",) if i in captioned else ()),
        )

    only(BAD + 1)
    evaluator.check(config)
    only(BAD + 2)  # which is not among the examples
    with pytest.raises(ConfigError, match=r'length="caption": no image of .* has a caption'):
        evaluator.check(config)


def test_decoding_that_cannot_work_is_refused_before_training(tmp_path):
    config = make_subject(tmp_path).config
    for settings, message in (({"beams": 2}, "decoding.beams=2"), ({"top_p": 0.5}, "decoding.top_p=0.5")):
        section = dataclasses.replace(SECTION, decoding=sections.Decoding(**settings))
        with pytest.raises(ConfigError, match=message):
            build(section).check(config)
    config = dataclasses.replace(config, objective=sections.MaskedDiffusion(padding="known"))
    with pytest.raises(ConfigError, match="no length law"):
        build(SECTION).check(config)
