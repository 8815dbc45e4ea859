import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from mdc_jax import files, objectives
from mdc_jax.config import ConfigError, sections
from mdc_jax.evaluators import build, check, image_bank, position_signal
from mdc_jax.report import tables
from tests.evaluators.fakes import BAD, SIZE, TOKENS, WORDS, FakeSource, make_subject
from tests.models.random_params import random_params

COUNT, BANK = 9, 3
SECTION = sections.PositionSignal(examples=COUNT, batch_size=8, blind_images=BANK)
IDS = np.delete(np.arange(COUNT), BAD)


@functools.cache
def objective_of(settings):
    encoder = sections.Encoder(patch=8, width=8, depth=1, heads=1, mlp_dim=8)
    model = sections.Model(encoder=encoder, decoder=sections.Decoder(depth=1))
    image = sections.Image(size=SIZE)
    objective = objectives.build(settings, model=model, image=image, vocab_size=len(WORDS), max_tokens=TOKENS)
    params = random_params(objective.init)
    objective.init = lambda key: params
    return objective


@pytest.fixture
def run(tmp_path, use_source):
    """Runs the evaluator; returns the subject, its metrics and the lines of its table."""
    use_source(FakeSource(COUNT))

    def run(settings):
        subject = make_subject(tmp_path, objective_of(settings))
        metrics = dict(build(SECTION).run(subject))
        return subject, metrics, tables.read_csv(epath.Path(tmp_path) / "position_signal.csv")

    return run


@pytest.mark.parametrize("section", [sections.Autoregressive(), sections.Parallel()])
def test_signal_and_gradient_are_those_of_one_token_at_a_time(run, section):
    """Captions have three tokens; these objectives draw no mask, so that each token can be asked for by itself."""
    subject, metrics, lines = run(section)
    objective, source = subject.objective, FakeSource(COUNT)
    bank = image_bank.training_images(subject, BANK)["tokens"]
    params, bank = jax.tree.map(jnp.asarray, jax.device_get((subject.params, bank)))  # on one device

    @jax.jit
    def nats(tokens, text):
        captions = {"text": text[None, None], "length": jnp.full((1, 1), 3)}
        return objective.token_losses(params, {"tokens": tokens[None]}, captions, jax.random.key(0))[0][0, 0]

    slopes = jax.jit(jax.jacrev(nats))
    encode = jax.jit(lambda images: objective.encode(params, images)["tokens"])
    signal, gradient = [], []
    for i in IDS:
        record = source[i]
        text = jnp.array([*subject.tokenizer.encode(record.captions[0], TOKENS), 0])
        tokens = encode(record.image[None])[0]
        blind = -np.log(np.mean([np.exp(-nats(other, text)) for other in bank], axis=0))
        signal.append(blind - nats(tokens, text))
        size = np.sqrt(np.mean(np.square(tokens)))
        gradient.append([size * np.linalg.norm(slope) for slope in slopes(tokens, text)[:3]])
    signal, gradient = np.array(signal)[:, :3], np.array(gradient)
    assert [(line["masked_share"], line["position"], int(line["tokens"])) for line in lines] == [
        ("all", str(position), len(IDS)) for position in range(3)
    ]
    np.testing.assert_allclose([float(line["signal"]) for line in lines], signal.mean(0), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose([float(line["gradient"]) for line in lines], gradient.mean(0), rtol=1e-3)
    np.testing.assert_allclose(
        [float(line["signal_standard_error"]) for line in lines],
        signal.std(0, ddof=1) / len(IDS) ** 0.5,
        rtol=1e-3,
        atol=1e-6,
    )
    assert metrics["signal"] == pytest.approx(signal.mean(), rel=1e-3, abs=1e-5)
    assert metrics["gradient/last_third"] == pytest.approx(gradient[:, 2].mean(), rel=1e-3)
    assert gradient.min() > 1e-4
    each = files.read_json_lines(subject.out / "predictions.jsonl")
    assert [(line["id"], line["positions"]) for line in each] == [(i, [0, 1, 2]) for i in IDS]
    found = np.array([np.subtract(line["blind_nats"], line["nats"]) for line in each])
    np.testing.assert_allclose(found, signal, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose([line["gradient"] for line in each], gradient, rtol=1e-3)


def test_a_decoder_without_images_has_no_signal(run):
    _, metrics, lines = run(sections.MaskedDiffusion(null_image_rate=1.0))
    assert metrics["gradient"] == 0 and metrics["signal"] == pytest.approx(0, abs=1e-5)
    assert all(float(line["gradient"]) == 0 for line in lines)
    assert any(float(line["nats"]) > 0.1 for line in lines)


def test_masked_tokens_are_told_apart_by_the_share_that_is_masked(run, tmp_path):
    _, _, lines = run(sections.MaskedDiffusion(interval=(0.1, 1.0)))
    tokens = {}
    for line in lines:
        tokens[line["masked_share"]] = tokens.get(line["masked_share"], 0) + int(line["tokens"])
    assert sum(count for part, count in tokens.items() if part != "all") == tokens["all"] < 3 * len(IDS)
    assert set(tokens) <= {"all", "0.2-0.4", "0.6-0.8", "0.8-1"}  # of three tokens
    assert (tmp_path / "signal.svg").exists() and (tmp_path / "gradient.pdf").exists()


def test_thirds_hold_every_token_and_no_pad():
    np.testing.assert_array_equal(
        position_signal._third(np.array([[3, 4, 1]]), 5)[0], [[0, 1, 2, 3, 3], [0, 0, 1, 2, 3], [0, 3, 3, 3, 3]]
    )


def test_what_predicts_no_tokens_is_refused_before_training(tmp_path, use_source):
    use_source(FakeSource(COUNT))
    clip = dataclasses.replace(make_subject(tmp_path).config, objective=sections.Clip())
    with pytest.raises(ConfigError, match='"clip" writes no captions: leave the evaluator mine out'):
        check(dataclasses.replace(clip, evaluators={"mine": SECTION}))
