"""A loaded model encodes, captions and scores whatever is given to it, in any number, and says what it cannot."""

import dataclasses
import pathlib

import jax
import numpy as np
import PIL.Image
import pytest

import mdc_jax
from mdc_jax import inference
from mdc_jax.caption import captions
from mdc_jax.config import ConfigError, sections
from mdc_jax.data.images import BadImage
from mdc_jax.training import build
from tests.objectives import tiny

CHECKPOINT = pathlib.Path(__file__).parent / "testdata" / "checkpoint_format_1"


@pytest.fixture(scope="module")
def model():
    return inference.load(CHECKPOINT, batch_size=8)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (48, 48, 3)).astype(np.uint8) for _ in range(11)]


def test_images_of_any_form_have_the_same_features(model, images, tmp_path):
    picture = PIL.Image.fromarray(images[0])
    picture.save(tmp_path / "image.png")
    forms = [
        images[0],
        picture,
        tmp_path / "image.png",
        str(tmp_path / "image.png"),
        (tmp_path / "image.png").read_bytes(),
    ]
    tokens = model(forms, "tokens")
    np.testing.assert_array_equal(tokens, np.repeat(tokens[:1], len(forms), axis=0))


def test_pictures_of_any_mode_are_taken(model, images):
    picture = PIL.Image.fromarray(images[0])
    assert np.isfinite(model([picture.convert(mode) for mode in ("L", "P", "RGBA", "CMYK", "HSV")])).all()


def test_batches_do_not_change_what_is_found(model, images):
    together = model(images)
    assert len(together) == 11
    np.testing.assert_allclose(model(images[9:]), together[9:], atol=1e-5)
    captions = [[f"a red circle {i}", "two in all"] for i in range(11)]
    score = model.score(images, captions, "one_pass")
    assert score.value.shape == (11, 2) and score.kind == "heuristic"
    np.testing.assert_allclose(model.score(images[9:], captions[9:], "one_pass").value, score.value[9:], rtol=1e-4)
    bound = model.score(images, captions, "elbo")
    np.testing.assert_allclose(bound.replicates.mean(0), bound.value, rtol=1e-5)
    difference, error = bound.difference(0, 1)
    np.testing.assert_allclose(difference, bound.value[:, 0] - bound.value[:, 1], rtol=1e-5)
    assert error.shape == (11,)
    np.testing.assert_allclose(model.score(images[:3], captions[:3], "elbo").value, bound.value[:3], rtol=1e-4)


def test_numbers_may_be_those_of_numpy(model, images):
    (written,) = model.caption(images[:1], sections.Decoding(steps=np.int64(4), temperature=np.float32(0.5)), seed=3)
    (same,) = model.caption(images[:1], sections.Decoding(steps=4, temperature=0.5), seed=np.int64(3))
    assert written.text == same.text


def test_captions_may_be_in_any_list_and_are_read_to_their_end(model, images):
    captions = [["a red circle", "two in all"], ["a blue star", "it is large"]]
    values = model.score(images[:2], captions, "one_pass").value
    np.testing.assert_array_equal(model.score(images[:2], np.array(captions), "one_pass").value, values)
    spaces = " " * 9000
    captions[1][0] = f"a blue{spaces}star"
    np.testing.assert_array_equal(model.score(images[:2], captions, "one_pass").value, values)


def test_a_caption_is_the_sum_of_what_its_tokens_add(model, images):
    written = model.caption(images[:3], tokens=6, with_attention=True, with_score=True)
    assert len(written) == 3
    for caption, plain in zip(written, model.caption(images[:3], tokens=6), strict=True):
        assert plain.text == caption.text and plain.score is None and plain.attention.shape == (5, 0)
        assert "".join(caption.texts).strip() == caption.text
        assert len(caption.texts) == len(caption.steps) == len(caption.log_probs) == len(caption.attention) == 5
        assert sorted(caption.steps) == list(range(5))
        assert (caption.log_probs <= 0).all() and caption.score < 0 and caption.kind == "bound"


def test_the_score_of_a_caption_is_of_all_that_was_written():
    objective = tiny.build(sections.Autoregressive())
    params, batch = tiny.trained(objective), {"image": tiny.batch(5)["image"]}
    options = {"settings": sections.Decoding(temperature=1.0), "tokens": None, "with_attention": False}
    written, score = inference._caption(objective, params, batch, jax.random.key(0), **options, with_score=True)
    np.testing.assert_allclose(score.value[:, 0], written["log_prob"].sum(1), rtol=1e-4)


def test_bad_files_among_several_batches_are_skipped_in_place(model, images, tmp_path, capsys):
    files = [tmp_path / f"{number}.png" for number in range(19)]
    for number, file in enumerate(files):
        PIL.Image.fromarray(np.full((32, 32, 3), 12 * number, np.uint8)).save(file)
    bad = {files[number] for number in (0, 6, 9, 18)}
    for file in bad:
        file.write_bytes(b"nonsense")
    settings = sections.Decoding(steps=1)
    found = dict(captions(model, files, settings, tokens=4, seed=0))
    assert list(found) == [file for file in files if file not in bad]
    assert capsys.readouterr().err.count("skipped ") == len(bad)
    alone = model.caption([*found], settings, tokens=4)
    assert [written.text for written in found.values()] == [written.text for written in alone]


def _with_padding_known(loaded):
    objective = dataclasses.replace(loaded.config.objective, padding="known")
    return dataclasses.replace(loaded, config=dataclasses.replace(loaded.config, objective=objective))


@pytest.mark.parametrize("section", [sections.Clip(), sections.SigLip()], ids=lambda section: section.name)
def test_a_model_that_only_compares_writes_no_captions(model, section):
    loaded = model.loaded
    config = dataclasses.replace(loaded.config, objective=section)
    objective = build.objective(config, loaded.tokenizer.vocab_size, loaded.mesh, loaded.tokenizer.word_starts)
    contrastive = inference.Model(dataclasses.replace(loaded, config=config, objective=objective))
    message = f'the objective "{section.name}" has no decoder: it scores captions, but writes none'
    with pytest.raises(ConfigError, match=message):
        next(contrastive.stream_captions(["unread.png"]))
    with pytest.raises(ConfigError, match=message):  # as the command calls it, whatever its settings
        next(captions(contrastive, ["unread.png"], sections.Decoding(steps=4), tokens=5, seed=0))


def test_what_cannot_be_done_is_said(model, images, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"nonsense")
    with pytest.raises(BadImage):
        model([tmp_path / "bad.png"])
    with pytest.raises(ValueError, match="no image"):
        model([])
    with pytest.raises(ConfigError, match="tokens=99: the model writes 2 to"):
        model.caption(images[:1], tokens=99)
    with pytest.raises(ConfigError, match="beams"):
        model.caption(images[:1], sections.Decoding(beams=4))
    with pytest.raises(ConfigError, match=r'length="training".*with `tokens=` or --tokens'):
        model.caption(images[:1], sections.Decoding(length="training"))
    with pytest.raises(ConfigError, match=r'length="caption": lengths of captions are not at hand here'):
        model.caption(images[:1], sections.Decoding(length="caption"))
    with pytest.raises(ConfigError, match=r'padding="known" has no length law.*with `tokens=` or --tokens'):
        inference.Model(_with_padding_known(model.loaded)).caption(images[:1])
    with pytest.raises(ConfigError, match='scorer "elb": choose one of elbo'):
        model.score(images[:1], [["a"]], "elb")
    with pytest.raises(ConfigError, match="choose one of confidence"):
        model.caption(images[:1], sections.Decoding(order="confidenc"))
    with pytest.raises(ValueError, match="2 images need as many lists"):
        model.score(images[:2], [["a"]])
    with pytest.raises(ValueError, match="1 images need as many lists"):
        model.score(images[:1], ["a red circle"])
    with pytest.raises(ValueError, match=r"images have \[0\] captions"):
        model.score(images[:1], [[]])
    with pytest.raises(ValueError, match="give a list of images"):
        model(images[0])
    with pytest.raises(ValueError, match=r"a caption has \d+ tokens, and the model reads"):
        model.score(images[:1], [["a red circle " * 50]])
    for wrong in (None, 3, {"a": 1}, [None], [3]):
        with pytest.raises(ValueError, match="1 images need as many lists"):
            model.score(images[:1], wrong)
    with pytest.raises(ValueError, match="a caption is a text, not b'a'"):
        model.score(images[:1], [[b"a"]])
    for wrong in ({"a": images[0]}, {1, 2}, iter(images)):
        with pytest.raises(ValueError, match="give a list of images"):
            model(wrong)
    with pytest.raises(BadImage, match="its size is 0 x 5"):
        model([PIL.Image.new("RGB", (0, 5))])
    for seed in (-1, 2**32, 1.5):
        with pytest.raises(ConfigError, match=r"seed=.*: give a whole number"):
            model.caption(images[:1], seed=seed)
    for tokens in ("5", 3.0):
        with pytest.raises(ConfigError, match=r"tokens=.*: the model writes 2 to"):
            model.caption(images[:1], tokens=tokens)
    for wrong in ({"steps": 2}, None):
        with pytest.raises(ConfigError, match=r"settings=.*: give a `Decoding`"):
            model.caption(images[:1], wrong)
    for wrong in ({"steps": "2"}, {"steps": 2.5}, {"steps": True}, {"temperature": "1"}, {"order": 1}):
        with pytest.raises(ConfigError, match=r"decoding.*: expected"):
            model.caption(images[:1], sections.Decoding(**wrong))


def test_the_package_loads_a_run():
    assert isinstance(mdc_jax.load(CHECKPOINT), inference.Model)
    with pytest.raises(ConfigError, match="holds no checkpoint"):
        mdc_jax.load(CHECKPOINT.parent)


def test_a_character_of_several_tokens_is_added_by_the_last():
    def decode(ids):
        return {1: "a", 2: "a\N{REPLACEMENT CHARACTER}", 3: "aé"}[len(ids)]

    assert list(inference.additions(decode, [7, 8, 9])) == ["a", "", "é"]
